//! Drives an agent: workers that each put one request after another to it, and what they measured.
//!
//! Once it is warm the driver allocates nothing of its own, so that what is counted is the library's.

use crate::connect::AGENT_ID;
use crate::correlation_id::{self, CorrelationId};
use crate::exit::cause_of;
use crate::latency::Latencies;
use crate::progress::{Progress, Status};
use crate::tally::{DecisionCounts, Tally};
use crate::timeline::Timeline;
use crate::traffic::{Corpus, Request};
use std::pin::pin;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};
use tokio::sync::Barrier;
use tokio::task::JoinSet;
use tokio::time::sleep;
use tollgate::{AgentPool, AgentProtocolError, Decision};
use tollgate_counting_alloc::allocations;

const PROGRESS_PERIOD: Duration = Duration::from_millis(200);
const PAUSE_AFTER_FAILURE: Duration = Duration::from_millis(10);

/// Pools fill and buffers grow during the first requests: 5 % of a run, or this many.
const WARM_UP_REQUESTS: u64 = 1_000;
const WARM_UP_DIVISOR: u32 = 20;

/// When a run ends.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Length {
    /// After exactly this many requests.
    Requests(u64),
    /// After this time, when what is in flight has been answered.
    Time(Duration),
}

/// What a run came to.
pub(crate) struct Measurement {
    /// Finished requests, those that failed included.
    pub(crate) requests: u64,
    /// Requests that failed.
    pub(crate) errors: u64,
    /// Why the first of them failed.
    pub(crate) first_error: Option<String>,
    /// From the first request to the last answer.
    pub(crate) elapsed: Duration,
    /// Of whole requests, from headers to last chunk; without those that failed.
    pub(crate) latencies: Latencies,
    /// How requests were decided; without those that failed.
    pub(crate) decisions: DecisionCounts,
    /// How they came over time.
    pub(crate) timeline: Timeline,
    /// Heap allocations of this process per request, after the warm-up.
    pub(crate) allocations_per_request: f64,
}

/// Puts the requests of `corpus` to the pool's agent, `concurrency` at a time.
///
/// Ends early when the agent is gone.
pub(crate) async fn drive(
    pool: &AgentPool,
    corpus: Corpus,
    concurrency: usize,
    length: Length,
) -> anyhow::Result<Measurement> {
    let run = Arc::new(Run::new(corpus, concurrency, length));
    let mut workers = JoinSet::new();
    for _ in 0..concurrency {
        workers.spawn(work(pool.clone(), Arc::clone(&run), Tally::new()));
    }
    let mut gathered = Gathered {
        tallies: Vec::with_capacity(concurrency),
        timeline: Timeline::new(),
    };
    run.start.wait().await;
    let began = Instant::now();
    run.watch(began, &mut workers, &mut gathered).await?;
    let elapsed = began.elapsed();
    let allocations_per_request = run.allocations_per_request();
    drop(workers);
    Ok(run.measurement(gathered, elapsed, allocations_per_request))
}

/// What a run has brought in.
struct Gathered {
    tallies: Vec<Tally>,
    timeline: Timeline,
}

/// What the workers of a run share.
struct Run {
    corpus: Corpus,
    length: Length,
    start: Barrier,
    /// How many requests have begun. Taking a number from here begins one.
    begun: AtomicU64,
    stopped: AtomicBool,
    warm_at: u64,
    warm: OnceLock<Warm>,
    /// Requests that failed so far.
    errors: AtomicU64,
    first_error: OnceLock<String>,
    /// Makes the correlation ids of this run unlike those of any other.
    nonce: u64,
}

/// The state of things at the end of the warm-up.
struct Warm {
    requests: u64,
    allocations: u64,
}

impl Run {
    fn new(corpus: Corpus, concurrency: usize, length: Length) -> Self {
        Self {
            corpus,
            length,
            start: Barrier::new(concurrency + 1),
            begun: AtomicU64::new(0),
            stopped: AtomicBool::new(false),
            warm_at: warm_at(length, concurrency),
            warm: OnceLock::new(),
            errors: AtomicU64::new(0),
            first_error: OnceLock::new(),
            nonce: correlation_id::nonce(),
        }
    }

    /// The number of the next request, until the run is over.
    fn next(&self) -> Option<u64> {
        if self.is_stopped() {
            return None;
        }
        let number = self.begun.fetch_add(1, Ordering::Relaxed);
        if number == self.warm_at {
            self.end_warm_up(number);
        }
        match self.length {
            Length::Requests(requests) if number >= requests => None,
            _ => Some(number),
        }
    }

    fn begun(&self) -> u64 {
        let begun = self.begun.load(Ordering::Relaxed);
        match self.length {
            Length::Requests(requests) => begun.min(requests),
            Length::Time(_) => begun,
        }
    }

    fn is_stopped(&self) -> bool {
        self.stopped.load(Ordering::Relaxed)
    }

    fn stop(&self) {
        self.stopped.store(true, Ordering::Relaxed);
    }

    fn failed(&self, error: &AgentProtocolError) {
        self.errors.fetch_add(1, Ordering::Relaxed);
        // Only the first is kept.
        let _ = self.first_error.set(cause_of(error));
        if is_final(error) {
            self.stop();
        }
    }

    /// The first call counts, whether the number of requests or the time comes to it first.
    fn end_warm_up(&self, requests: u64) {
        let _ = self.warm.set(Warm {
            requests,
            allocations: allocations(),
        });
    }

    fn allocations_per_request(&self) -> f64 {
        let Some(warm) = self.warm.get() else {
            return 0.0;
        };
        let allocations = allocations() - warm.allocations;
        let requests = self.begun().saturating_sub(warm.requests).max(1);
        allocations as f64 / requests as f64
    }

    /// Gathers what the workers measured, shows how they get on, and ends the run in time.
    async fn watch(
        &self,
        began: Instant,
        workers: &mut JoinSet<Tally>,
        gathered: &mut Gathered,
    ) -> anyhow::Result<()> {
        let Gathered { tallies, timeline } = gathered;
        let mut progress = Progress::new();
        let mut ticks = tokio::time::interval(PROGRESS_PERIOD);
        let (warm_up, end) = match self.length {
            Length::Time(time) => (time / WARM_UP_DIVISOR, time),
            Length::Requests(_) => (Duration::MAX, Duration::MAX),
        };
        let (mut warm_up, mut end) = (pin!(sleep(warm_up)), pin!(sleep(end)));
        let (mut is_warm, mut is_over) = (false, false);
        let outcome = loop {
            tokio::select! {
                finished = workers.join_next() => match finished {
                    Some(Ok(tally)) => tallies.push(tally),
                    Some(Err(error)) => break Err(error.into()),
                    None => break Ok(()),
                },
                () = &mut warm_up, if !is_warm => {
                    is_warm = true;
                    self.end_warm_up(self.begun());
                }
                () = &mut end, if !is_over => {
                    is_over = true;
                    self.stop();
                }
                _ = ticks.tick() => {
                    let status = self.status(began.elapsed());
                    progress.show(status);
                    timeline.offer(status.elapsed, status.requests, self.errors());
                }
            }
        };
        progress.clear();
        timeline.end(began.elapsed(), self.begun(), self.errors());
        outcome
    }

    fn errors(&self) -> u64 {
        self.errors.load(Ordering::Relaxed)
    }

    fn status(&self, elapsed: Duration) -> Status {
        let requests = self.begun();
        let share = match self.length {
            Length::Requests(all) => requests as f64 / all as f64,
            Length::Time(time) => elapsed.as_secs_f64() / time.as_secs_f64(),
        };
        Status {
            elapsed,
            requests,
            share,
        }
    }

    fn measurement(
        &self,
        gathered: Gathered,
        elapsed: Duration,
        allocations_per_request: f64,
    ) -> Measurement {
        let mut sum = Tally::new();
        for tally in &gathered.tallies {
            sum.merge(tally);
        }
        Measurement {
            requests: sum.requests(),
            errors: sum.errors,
            first_error: self.first_error.get().cloned(),
            elapsed,
            latencies: sum.latencies,
            decisions: sum.decisions,
            timeline: gathered.timeline,
            allocations_per_request,
        }
    }
}

/// The number of the request that is the first to be counted: those before it have warmed things up, once
/// for each worker.
fn warm_at(length: Length, concurrency: usize) -> u64 {
    match length {
        Length::Time(_) => WARM_UP_REQUESTS.saturating_add(concurrency as u64),
        Length::Requests(requests) => (requests / u64::from(WARM_UP_DIVISOR))
            .min(WARM_UP_REQUESTS)
            .saturating_add(concurrency as u64)
            .min(requests / 2),
    }
}

async fn work(pool: AgentPool, run: Arc<Run>, mut tally: Tally) -> Tally {
    let mut id = CorrelationId::new(run.nonce);
    run.start.wait().await;
    while let Some(number) = run.next() {
        let request = run.corpus.request(number);
        let began = Instant::now();
        match exchange(&pool, id.of(number), request, run.corpus.timestamp()).await {
            Ok(decision) => tally.decided(&decision, began.elapsed()),
            Err(error) => {
                tally.errors += 1;
                run.failed(&error);
                // Some failures come at once; asking again without a pause would only burn the processor.
                sleep(PAUSE_AFTER_FAILURE).await;
            }
        }
    }
    tally
}

/// Puts one request to the agent, as much of it as it takes until the agent objects.
async fn exchange(
    pool: &AgentPool,
    correlation_id: &str,
    request: &Request,
    timestamp: &str,
) -> Result<Decision, AgentProtocolError> {
    let head = request.head(correlation_id, timestamp);
    let mut exchange = pool.exchange(AGENT_ID, correlation_id)?;
    let mut decision = exchange.send(&head).await?.decision;
    for chunk in request.chunks() {
        if decision != Decision::Allow {
            break;
        }
        decision = exchange.send(chunk).await?.decision;
    }
    Ok(decision)
}

/// Whether every later request would fail in the same way.
fn is_final(error: &AgentProtocolError) -> bool {
    matches!(
        error,
        AgentProtocolError::ConnectionFailed { .. }
            | AgentProtocolError::ConnectionClosed { .. }
            | AgentProtocolError::Unavailable { .. }
            | AgentProtocolError::UnknownAgent { .. }
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exactly_the_requests_asked_for_are_handed_out() {
        let run = Run::new(Corpus::browsing(0), 2, Length::Requests(3));
        let numbers: Vec<u64> = std::iter::from_fn(|| run.next()).collect();
        assert_eq!(numbers, [0, 1, 2]);
        assert_eq!(run.begun(), 3);
    }

    #[test]
    fn nothing_is_handed_out_once_stopped() {
        let run = Run::new(Corpus::browsing(0), 2, Length::Time(Duration::from_secs(9)));
        assert_eq!(run.next(), Some(0));
        run.stop();
        assert_eq!(run.next(), None);
    }

    #[test]
    fn the_warm_up_leaves_something_to_count() {
        assert_eq!(warm_at(Length::Requests(1), 64), 0);
        assert_eq!(warm_at(Length::Requests(100), 64), 50);
        assert_eq!(warm_at(Length::Requests(10_000), 64), 564);
        assert_eq!(warm_at(Length::Requests(1_000_000), 64), 1_064);
    }
}
