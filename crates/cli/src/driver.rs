//! Sends requests to an agent from concurrent workers and measures them.
//!
//! After the warm-up the driver itself does not allocate, so that counted allocations are those of
//! the library.

use crate::correlation_id::{self, CorrelationId};
use crate::exit::AgentError;
use crate::latency::Latencies;
use crate::progress::{Progress, Status};
use crate::tally::{DecisionCounts, Tally};
use crate::timeline::Timeline;
use crate::traffic::{Request, RequestList};
use std::pin::pin;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};
use tokio::sync::Barrier;
use tokio::task::JoinSet;
use tokio::time::sleep;
use tollgate::{Agent, CallError, Decision};
use tollgate_counting_alloc::allocations;

const PROGRESS_PERIOD: Duration = Duration::from_millis(200);
const PAUSE_AFTER_FAILURE: Duration = Duration::from_millis(10);

/// Requests of the warm-up, in which pools fill and buffers grow. A run of a fixed number of
/// requests warms up for 5 % of them if that is less; a timed run for 5 % of its time or this many
/// requests, whichever ends first.
const WARM_UP_REQUESTS: u64 = 1_000;
const WARM_UP_DIVISOR: u32 = 20;

/// The length of a run.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Length {
    /// Exactly this many requests.
    Requests(u64),
    /// This much time; requests in flight at its end are completed.
    Time(Duration),
}

/// The results of a run.
pub(crate) struct Measurement {
    /// Finished requests, including failed ones.
    pub(crate) requests: u64,
    /// Requests that failed.
    pub(crate) errors: u64,
    /// The cause of the first failure.
    pub(crate) first_error: Option<String>,
    /// Time from the first request to the last answer.
    pub(crate) elapsed: Duration,
    /// Latencies of whole requests, from headers to last chunk, without failed requests.
    pub(crate) latencies: Latencies,
    /// Final decisions on requests, without failed requests.
    pub(crate) decisions: DecisionCounts,
    /// Requests and failures over time.
    pub(crate) timeline: Timeline,
    /// Heap allocations of this process per request, after the warm-up.
    pub(crate) allocations_per_request: f64,
}

/// Sends the requests of `request_list` to the agent, `concurrency` at a time.
///
/// Ends early if the agent becomes unreachable.
pub(crate) async fn drive(
    agent: &Agent,
    request_list: RequestList,
    concurrency: usize,
    length: Length,
) -> anyhow::Result<Measurement> {
    let run = Arc::new(Run::new(request_list, concurrency, length));
    let workers = (0..concurrency).map(|_| work(agent.clone(), Arc::clone(&run), Tally::new()));
    drive_workers(&run, workers.collect()).await
}

/// Runs the workers of a run, of which there are as many as it was made for, until all have ended.
pub(crate) async fn drive_workers<W>(run: &Run, futures: Vec<W>) -> anyhow::Result<Measurement>
where
    W: Future<Output = Tally> + Send + 'static,
{
    let mut collected = Collected {
        tallies: Vec::with_capacity(futures.len()),
        timeline: Timeline::new(),
    };
    let mut workers = JoinSet::new();
    for future in futures {
        workers.spawn(future);
    }
    run.begin().await;
    let began = Instant::now();
    run.watch(began, &mut workers, &mut collected).await?;
    let elapsed = began.elapsed();
    let allocations_per_request = run.allocations_per_request();
    drop(workers);
    Ok(run.measurement(collected, elapsed, allocations_per_request))
}

/// Data collected while a run goes on.
struct Collected {
    tallies: Vec<Tally>,
    timeline: Timeline,
}

/// State shared by the workers of a run.
pub(crate) struct Run {
    request_list: RequestList,
    length: Length,
    start: Barrier,
    /// Number of requests that have begun. A worker begins a request by taking the next number.
    begun: AtomicU64,
    stopped: AtomicBool,
    /// Number of the first request after the warm-up.
    warm_at: u64,
    warm_up: OnceLock<WarmUpCounts>,
    /// Number of requests that have failed.
    errors: AtomicU64,
    first_error: OnceLock<String>,
    /// Makes the correlation ids of this run differ from those of other runs.
    nonce: u64,
}

/// Counts at the end of the warm-up.
struct WarmUpCounts {
    requests: u64,
    allocations: u64,
}

impl Run {
    /// Creates a run of this many workers.
    pub(crate) fn new(request_list: RequestList, concurrency: usize, length: Length) -> Self {
        Self {
            request_list,
            length,
            start: Barrier::new(concurrency + 1),
            begun: AtomicU64::new(0),
            stopped: AtomicBool::new(false),
            warm_at: warm_at(length, concurrency),
            warm_up: OnceLock::new(),
            errors: AtomicU64::new(0),
            first_error: OnceLock::new(),
            nonce: correlation_id::nonce(),
        }
    }

    /// Waits until all workers are there.
    pub(crate) async fn begin(&self) {
        self.start.wait().await;
    }

    /// Returns a number for correlation ids, which differ from those of other runs.
    pub(crate) fn nonce(&self) -> u64 {
        self.nonce
    }

    /// Returns the number of the next request, or `None` once the run is over.
    pub(crate) fn next(&self) -> Option<u64> {
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

    /// Returns the request with this number.
    #[cfg(feature = "envoy")]
    pub(crate) fn request(&self, number: u64) -> &Request {
        self.request_list.request(number)
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

    /// Ends the run.
    pub(crate) fn stop(&self) {
        self.stopped.store(true, Ordering::Relaxed);
    }

    fn record_failure(&self, error: &CallError) {
        self.record_cause(error.reason());
        if is_final(error) {
            self.stop();
        }
    }

    /// Counts a failed request.
    pub(crate) fn record_cause(&self, cause: String) {
        self.errors.fetch_add(1, Ordering::Relaxed);
        // Keeps only the first cause.
        let _ = self.first_error.set(cause);
    }

    /// Ends the warm-up after its requests or its time. Only the first call has an effect.
    fn end_warm_up(&self, requests: u64) {
        let _ = self.warm_up.set(WarmUpCounts {
            requests,
            allocations: allocations(),
        });
    }

    fn allocations_per_request(&self) -> f64 {
        let Some(warm_up) = self.warm_up.get() else {
            return 0.0;
        };
        let allocations = allocations() - warm_up.allocations;
        let requests = self.begun().saturating_sub(warm_up.requests).max(1);
        allocations as f64 / requests as f64
    }

    /// Collects the workers' results, shows progress, and stops a timed run at its end.
    async fn watch(
        &self,
        began: Instant,
        workers: &mut JoinSet<Tally>,
        collected: &mut Collected,
    ) -> anyhow::Result<()> {
        let Collected { tallies, timeline } = collected;
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
                    timeline.sample(status.elapsed, status.requests, self.errors());
                }
            }
        };
        progress.clear();
        timeline.finish(began.elapsed(), self.begun(), self.errors());
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
        collected: Collected,
        elapsed: Duration,
        allocations_per_request: f64,
    ) -> Measurement {
        let mut sum = Tally::new();
        for tally in &collected.tallies {
            sum.merge(tally);
        }
        Measurement {
            requests: sum.requests(),
            errors: sum.errors,
            first_error: self.first_error.get().cloned(),
            elapsed,
            latencies: sum.latencies,
            decisions: sum.decisions,
            timeline: collected.timeline,
            allocations_per_request,
        }
    }
}

/// Returns the number of the first request after the warm-up. The warm-up includes one request more
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

async fn work(agent: Agent, run: Arc<Run>, mut tally: Tally) -> Tally {
    let mut id = CorrelationId::new(run.nonce());
    run.begin().await;
    while let Some(number) = run.next() {
        let request = run.request_list.request(number);
        let began = Instant::now();
        match exchange(
            &agent,
            id.for_request(number),
            request,
            run.request_list.timestamp(),
        )
        .await
        {
            Ok(decision) => tally.record(&decision, began.elapsed()),
            Err(error) => {
                tally.errors += 1;
                run.record_failure(&error);
                // Some calls fail immediately; retrying them without a pause would be a busy loop.
                sleep(PAUSE_AFTER_FAILURE).await;
            }
        }
    }
    tally
}

/// Sends one request to the agent, event by event, until the agent decides against it.
async fn exchange(
    agent: &Agent,
    correlation_id: &str,
    request: &Request,
    timestamp: &str,
) -> Result<Decision, CallError> {
    let head = request.head(correlation_id, timestamp);
    let mut exchange = agent.exchange(correlation_id)?;
    let mut decision = exchange.send(&head).await?.decision;
    for chunk in request.body_events(correlation_id) {
        if decision != Decision::Allow {
            break;
        }
        decision = exchange.send(&chunk).await?.decision;
    }
    Ok(decision)
}

/// Returns whether later requests would fail with the same error.
fn is_final(error: &CallError) -> bool {
    matches!(
        error,
        CallError::ConnectionClosed { .. }
            | CallError::Unavailable { .. }
            | CallError::Removed { .. }
            | CallError::Replaced { .. }
            | CallError::PoolDropped { .. }
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn run_has_exactly_the_requested_number_of_requests() {
        let run = Run::new(RequestList::browsing(0), 2, Length::Requests(3));
        let numbers: Vec<u64> = std::iter::from_fn(|| run.next()).collect();
        assert_eq!(numbers, [0, 1, 2]);
        assert_eq!(run.begun(), 3);
    }

    #[test]
    fn stopped_run_has_no_further_requests() {
        let run = Run::new(
            RequestList::browsing(0),
            2,
            Length::Time(Duration::from_secs(9)),
        );
        assert_eq!(run.next(), Some(0));
        run.stop();
        assert_eq!(run.next(), None);
    }

    #[test]
    fn warm_up_is_at_most_half_of_a_run() {
        assert_eq!(warm_at(Length::Requests(1), 64), 0);
        assert_eq!(warm_at(Length::Requests(100), 64), 50);
        assert_eq!(warm_at(Length::Requests(10_000), 64), 564);
        assert_eq!(warm_at(Length::Requests(1_000_000), 64), 1_064);
    }
}
