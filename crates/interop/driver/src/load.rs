//! Callers that each make one request after another, and their costs.
//!
//! This code allocates nothing once it is warm, so that only the engine's allocations are counted.

use crate::agent::Agent;
use crate::subject::{Caller, LinkCounts, Proxy};
use crate::tally::Tally;
use crate::usage::Usage;
use anyhow::{Context, anyhow};
use std::cell::RefCell;
use std::fmt::Write;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};
use thread_local::ThreadLocal;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

/// Length of the warm-up, as a share of the measured time. Pools fill and buffers grow during it.
const WARM_UP_SHARE: f64 = 0.2;

/// Pause after a failed request. Immediate failures would otherwise keep the processor busy.
const PAUSE_AFTER_FAILURE: Duration = Duration::from_millis(10);

/// Limit for the last calls once the measured time is over.
const END_TIMEOUT: Duration = Duration::from_secs(10);

/// Duration of a run, and the pauses in it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Pace {
    pub(crate) time: Duration,
    /// Pause of each caller after each request.
    pub(crate) rest: Option<Duration>,
}

/// Result of a run.
pub(crate) struct Measurement {
    pub(crate) tally: Tally,
    pub(crate) elapsed: Duration,
    pub(crate) first_error: Option<String>,
    /// Usage of this process.
    pub(crate) own: Usage,
    /// Usage of the agent's process, if it has its own.
    pub(crate) agent: Option<Usage>,
    /// Counts of the link on the proxy's side, if it counts.
    pub(crate) link: Option<LinkCounts>,
}

/// Lets `concurrency` callers of `proxy` make requests for this time.
pub(crate) async fn drive<P: Proxy>(
    proxy: &P,
    agent: &mut Agent,
    concurrency: usize,
    Pace { time, rest }: Pace,
) -> anyhow::Result<Measurement> {
    let run = Arc::new(Run::default());
    let mut callers = JoinSet::new();
    for number in 0..concurrency {
        callers.spawn(Arc::clone(&run).call(proxy.caller(number), number, rest));
    }
    sleep(time.mul_f64(WARM_UP_SHARE)).await;
    let before = Moment::now(proxy, agent)?;
    run.measuring.store(true, Ordering::Relaxed);
    sleep(time).await;
    let after = Moment::now(proxy, agent)?;
    run.measuring.store(false, Ordering::Relaxed);
    run.end(callers).await;
    let run = Arc::into_inner(run).context("some callers did not end")?;
    Ok(run.measurement(before, after))
}

#[derive(Default)]
struct Run {
    measuring: AtomicBool,
    over: AtomicBool,
    /// One for each thread instead of each caller, to leave the caches to the engine.
    tallies: ThreadLocal<RefCell<Tally>>,
    first_error: OnceLock<String>,
}

impl Run {
    async fn call<C: Caller>(
        self: Arc<Self>,
        mut caller: C,
        number: usize,
        rest: Option<Duration>,
    ) {
        let mut ids = Ids::new(number);
        while !self.over.load(Ordering::Relaxed) {
            let id = ids.next();
            let began = Instant::now();
            match caller.call(id).await {
                Ok(()) => self.record(began.elapsed()),
                Err(error) => {
                    self.failed(&error);
                    sleep(PAUSE_AFTER_FAILURE).await;
                }
            }
            if let Some(rest) = rest {
                sleep(rest).await;
            }
        }
    }

    /// Lets callers finish their calls. Calls that do not end in time count as errors.
    async fn end(&self, mut callers: JoinSet<()>) {
        self.over.store(true, Ordering::Relaxed);
        let ended = timeout(END_TIMEOUT, async {
            while let Some(ended) = callers.join_next().await {
                if let Err(panic) = ended {
                    self.failed(&panic.into());
                }
            }
        });
        if ended.await.is_err() {
            for _ in 0..callers.len() {
                self.failed(&anyhow!("a call did not end"));
            }
            callers.shutdown().await;
        }
    }

    fn record(&self, taken: Duration) {
        // Created during the warm-up already, because a thread's first tally is allocated.
        let tally = self.tally();
        if self.measuring.load(Ordering::Relaxed) {
            tally.borrow_mut().allow(taken);
        }
    }

    /// Counts an error, during the warm-up as well: a subject must not fail then either.
    fn failed(&self, error: &anyhow::Error) {
        self.first_error.get_or_init(|| format!("{error:#}"));
        self.tally().borrow_mut().errors += 1;
    }

    fn tally(&self) -> &RefCell<Tally> {
        self.tallies.get_or(|| RefCell::new(Tally::new()))
    }

    fn measurement(self, before: Moment, after: Moment) -> Measurement {
        let mut sum = Tally::new();
        for tally in self.tallies {
            sum.merge(&tally.into_inner());
        }
        Measurement {
            tally: sum,
            elapsed: after.time - before.time,
            first_error: self.first_error.into_inner(),
            own: after.own - before.own,
            agent: after
                .agent
                .zip(before.agent)
                .map(|(after, before)| after - before),
            link: after
                .link
                .zip(before.link)
                .map(|(after, before)| after - before),
        }
    }
}

struct Moment {
    own: Usage,
    agent: Option<Usage>,
    link: Option<LinkCounts>,
    time: Instant,
}

impl Moment {
    /// Takes the usage and the time. Requesting the usage of the agent's process blocks this
    /// thread, which must not be a worker of the runtime.
    fn now(proxy: &impl Proxy, agent: &mut Agent) -> anyhow::Result<Self> {
        Ok(Self {
            link: proxy.link_counts(),
            own: Usage::so_far(),
            agent: agent.usage()?,
            time: Instant::now(),
        })
    }
}

/// Generates unique ids of the length of a UUID in the same memory.
struct Ids {
    caller: usize,
    number: u64,
    text: String,
}

impl Ids {
    fn new(caller: usize) -> Self {
        Self {
            caller,
            number: 0,
            text: String::with_capacity(64),
        }
    }

    fn next(&mut self) -> &str {
        self.number += 1;
        self.text.clear();
        // Writing to a string never fails.
        let _ = write!(self.text, "request-{:08}-{:018}", self.caller, self.number);
        &self.text
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::future::pending;

    enum Broken {
        Fails,
        NeverAnswers,
    }

    impl Proxy for Broken {
        type Caller = Self;

        fn encoding(&self) -> &'static str {
            "none"
        }

        fn caller(&self, _number: usize) -> Self {
            match self {
                Self::Fails => Self::Fails,
                Self::NeverAnswers => Self::NeverAnswers,
            }
        }
    }

    impl Caller for Broken {
        async fn call(&mut self, _id: &str) -> anyhow::Result<()> {
            match self {
                Self::Fails => Err(anyhow!("failed")),
                Self::NeverAnswers => pending().await,
            }
        }
    }

    async fn driven(proxy: Broken) -> Measurement {
        let mut agent = Agent::InProcess(tokio::spawn(pending()));
        let pace = Pace {
            time: Duration::from_secs(1),
            rest: None,
        };
        drive(&proxy, &mut agent, 3, pace).await.unwrap()
    }

    #[tokio::test(start_paused = true)]
    async fn calls_that_fail_are_errors() {
        let measured = driven(Broken::Fails).await;
        assert_eq!(measured.tally.allowed.len(), 0);
        assert!(measured.tally.errors > 3);
        assert_eq!(measured.first_error.unwrap(), "failed");
    }

    #[tokio::test(start_paused = true)]
    async fn calls_that_do_not_end_are_errors() {
        let measured = driven(Broken::NeverAnswers).await;
        assert_eq!(measured.tally.errors, 3);
    }

    #[test]
    fn ids_are_unique_and_reuse_their_memory() {
        let mut ids = Ids::new(7);
        let memory = ids.next().as_ptr();
        let second = ids.next();
        assert_eq!(second, "request-00000007-000000000000000002");
        assert_eq!(second.as_ptr(), memory);
    }
}
