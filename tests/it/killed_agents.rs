//! Agents in separate processes that are killed, or stopped and continued.

use crate::common::{AgentProcess, TEST_TIMEOUT, echoed, eventually, request};
use std::mem::replace;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use tokio::task::JoinHandle;
use tokio::time::{MissedTickBehavior, interval, timeout};
use tollgate::{AgentConfig, AgentPool, AgentPoolConfig, CallError as Error};

/// Runs the agent of the other tests, which start it as a separate process.
#[test]
#[ignore = "the other tests run it in a separate process, as their agent"]
fn agent_process() {
    crate::common::run_agent_process();
}

/// One finished call.
#[derive(Debug)]
struct Finished {
    at: Instant,
    took: Duration,
    error: Option<Error>,
}

/// Callers that make calls at a steady rate, whatever their outcome.
struct Traffic {
    stop: Arc<AtomicBool>,
    finished: Arc<Mutex<Vec<Finished>>>,
    callers: Vec<JoinHandle<()>>,
}

const CALLERS: u32 = 20;

impl Traffic {
    /// Makes `rate` calls per second, and asserts that each answer belongs to its call.
    fn to(pool: &AgentPool, name: &'static str, rate: u32, deadline: Duration) -> Self {
        let agent = pool.agent(name).unwrap();
        let stop = Arc::<AtomicBool>::default();
        let finished = Arc::<Mutex<Vec<Finished>>>::default();
        let callers = (0..CALLERS).map(|caller| {
            let (pool, agent) = (pool.clone(), agent.clone());
            let (stop, finished) = (stop.clone(), finished.clone());
            tokio::spawn(async move {
                let mut ticks = interval(Duration::from_secs(1) * CALLERS / rate);
                ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
                for n in 0.. {
                    ticks.tick().await;
                    if stop.load(Ordering::Relaxed) {
                        return;
                    }
                    let id = format!("{name}-{caller}-{n}");
                    let uri = format!("/{id}");
                    let started = Instant::now();
                    let event = request(&id, &uri);
                    let called = agent.send(&id, &event).timeout(deadline);
                    let called = timeout(2 * TEST_TIMEOUT, called).await;
                    pool.unpin(&id);
                    let error = match called.expect("the call hangs") {
                        Ok(response) => {
                            assert_eq!(echoed(response), uri, "answer to another call");
                            None
                        }
                        Err(error) => Some(error),
                    };
                    finished.lock().unwrap().push(Finished {
                        at: started,
                        took: started.elapsed(),
                        error,
                    });
                }
            })
        });
        Self {
            callers: callers.collect(),
            stop,
            finished,
        }
    }

    fn count(&self, is_counted: impl Fn(&Finished) -> bool) -> usize {
        let finished = self.finished.lock().unwrap();
        finished.iter().filter(|call| is_counted(call)).count()
    }

    /// Waits for this many answers to calls that are made from now on.
    async fn goes_on(&self, count: usize) {
        let from = Instant::now();
        eventually("traffic goes on", async || {
            self.count(|call| call.at >= from && call.error.is_none()) >= count
        })
        .await;
    }

    async fn end(self) -> Vec<Finished> {
        self.stop.store(true, Ordering::Relaxed);
        for caller in self.callers {
            caller.await.unwrap();
        }
        std::mem::take(&mut *self.finished.lock().unwrap())
    }
}

/// Asserts that no slot, affinity or uncounted call is left behind.
async fn expect_clean(pool: &AgentPool, agent: &'static str) {
    let stats = pool.agent(agent).unwrap().stats();
    assert_eq!(stats.total_in_flight, 0);
    assert_eq!(crate::common::pins(pool), 0);
    assert_eq!(
        stats.calls.made,
        stats.calls.answered + stats.calls.failed()
    );
    let as_many_as_there_are_slots = (0..400).map(|n| {
        let (pool, id) = (pool.clone(), format!("burst-{n}"));
        tokio::spawn(async move {
            let answered = pool
                .agent(agent)
                .unwrap()
                .send(&id, &request(&id, &id))
                .await;
            pool.unpin(&id);
            assert_eq!(echoed(answered.unwrap()), id);
        })
    });
    for call in as_many_as_there_are_slots.collect::<Vec<_>>() {
        call.await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_agent_is_reconnected_under_traffic() {
    let dir = tempfile::tempdir().unwrap();
    let socket = dir.path().join("agent.sock");
    let (mut agent, _) = AgentProcess::start(&socket).await;
    let pool = crate::common::pool_with(AgentPoolConfig::default(), &socket).await;
    let traffic = Traffic::to(&pool, "agent", 1_000, TEST_TIMEOUT);

    for _ in 0..3 {
        traffic.goes_on(200).await;
        let in_flight = pool.agent("agent").unwrap().stats().total_in_flight;
        let failed = traffic.count(|call| call.error.is_some());
        let killed = Instant::now();

        agent.kill();
        // Longer than the first delays between attempts to reconnect.
        eventually("calls fail", async || {
            traffic.count(|call| call.error.is_some()) > failed + 300
        })
        .await;

        let back;
        (agent, back) = AgentProcess::start(&socket).await;
        traffic.goes_on(200).await;

        let finished = traffic.finished.lock().unwrap();
        let resumed = finished
            .iter()
            .find(|call| call.at + call.took >= back && call.error.is_none());
        let took = resumed
            .expect("an answer")
            .at
            .saturating_duration_since(back);
        assert!(took < Duration::from_secs(1), "resumed after {took:?}");

        let cut_off = finished.iter().filter(|call| {
            call.at < killed && matches!(call.error, Some(Error::ConnectionClosed { .. }))
        });
        // The calls in flight were counted a moment before the kill.
        assert!(cut_off.count() <= in_flight as usize + CALLERS as usize);
    }
    let finished = traffic.end().await;
    for call in finished.iter().filter(|call| call.error.is_some()) {
        assert!(
            matches!(
                call.error,
                Some(
                    Error::ConnectionClosed { .. }
                        | Error::Unavailable { .. }
                        | Error::CircuitOpen { .. }
                )
            ),
            "{call:?}"
        );
        assert!(call.took < Duration::from_secs(1), "{call:?}");
    }
    expect_clean(&pool, "agent").await;
}

fn percentile_99(mut calls: Vec<Duration>) -> Duration {
    calls.sort_unstable();
    calls[calls.len() * 99 / 100]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn stopped_agent_does_not_slow_other_agents() {
    const DEADLINE: Duration = Duration::from_millis(100);
    /// Change of the 99th percentile that other load on the machine may cause.
    const NOISE: Duration = Duration::from_millis(1);
    let dir = tempfile::tempdir().unwrap();
    let (agent, _) = AgentProcess::start(&dir.path().join("agent.sock")).await;
    let (other, _) = AgentProcess::start(&dir.path().join("other.sock")).await;
    let config =
        AgentPoolConfig::default().circuit_breaker_reset_timeout(Duration::from_millis(100));
    let pool = crate::common::pool_with(config, &agent.socket).await;
    pool.add(AgentConfig::new("other", other.socket.to_str().unwrap()))
        .await
        .unwrap();
    let traffic = Traffic::to(&pool, "agent", 500, DEADLINE);
    let others = Traffic::to(&pool, "other", 500, TEST_TIMEOUT);
    let began = Instant::now();

    let mut rounds = Vec::new();
    for _ in 0..3 {
        others.goes_on(1_000).await;
        let stopped = Instant::now();
        agent.pause();
        eventually("the connections of the agent are skipped", async || {
            let stats = pool.agent("agent").unwrap().stats();
            stats.healthy_connections == 0 && !stats.is_healthy
        })
        .await;
        let out = Instant::now();
        others.goes_on(1_000).await;

        let fast = traffic.count(|call| call.at >= out && call.took < DEADLINE / 2);
        let slow = traffic.count(|call| call.at >= out && call.took >= DEADLINE / 2);
        // Calls that wait are trials of the circuit breaker.
        assert!(
            fast > 100 && slow <= 4 + fast / 20,
            "{fast} calls failed fast, {slow} waited"
        );

        rounds.push((stopped, Instant::now()));
        agent.resume();
        traffic.goes_on(200).await;
    }

    let late = crate::common::faults(&pool).await.late_answers;
    assert!(late > 0, "no answer was late");
    let (finished, others) = (traffic.end().await, others.end().await);
    for call in &finished {
        // Allows for other load on the machine.
        let allowed = DEADLINE + DEADLINE / 10 + Duration::from_millis(20) + NOISE;
        assert!(call.took < allowed, "{call:?}");
    }
    assert!(others.iter().all(|call| call.error.is_none()));
    let percentile = |from: Instant, to: Instant| {
        let calls = others.iter().filter(|call| from <= call.at && call.at < to);
        percentile_99(calls.map(|call| call.took).collect())
    };
    let mut before = began;
    let mut moved = Vec::new();
    for (stopped, continued) in rounds {
        let (before, during) = (
            percentile(replace(&mut before, continued), stopped),
            percentile(stopped, continued),
        );
        moved.push((before, during));
    }
    // Other load may disturb single rounds, while an effect of the pool would show in all of them.
    let is_still = |&(before, during): &(Duration, Duration)| during <= before + before / 5 + NOISE;
    assert!(
        moved.iter().any(is_still),
        "99th percentiles before and while the other was stopped: {moved:?}"
    );
    expect_clean(&pool, "agent").await;
}
