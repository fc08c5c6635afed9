//! Agents in processes of their own that are killed, or stopped and continued.

#![allow(clippy::unwrap_used, reason = "what fails here fails the test")]

mod common;

use common::{AgentProcess, PATIENCE, echoed, eventually, request};
use std::mem::replace;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use tokio::task::JoinHandle;
use tokio::time::{MissedTickBehavior, interval, timeout};
use tollgate::{AgentPool, AgentPoolConfig, AgentProtocolError as Error};

/// What the other tests start as the process of their agent.
#[test]
#[ignore = "the other tests run it in a process of its own, as their agent"]
fn agent_process() {
    common::run_agent_process();
}

/// One finished call.
#[derive(Debug)]
struct Finished {
    at: Instant,
    took: Duration,
    error: Option<Error>,
}

/// Callers that make calls at a steady pace, whatever becomes of them.
struct Traffic {
    stop: Arc<AtomicBool>,
    finished: Arc<Mutex<Vec<Finished>>>,
    callers: Vec<JoinHandle<()>>,
}

const CALLERS: u32 = 20;

impl Traffic {
    /// Makes `rate` calls per second. Each answer must be the one to its call.
    fn to(pool: &AgentPool, agent: &'static str, rate: u32, deadline: Duration) -> Self {
        let stop = Arc::<AtomicBool>::default();
        let finished = Arc::<Mutex<Vec<Finished>>>::default();
        let callers = (0..CALLERS).map(|caller| {
            let (pool, stop, finished) = (pool.clone(), stop.clone(), finished.clone());
            tokio::spawn(async move {
                let mut pace = interval(Duration::from_secs(1) * CALLERS / rate);
                pace.set_missed_tick_behavior(MissedTickBehavior::Delay);
                for n in 0.. {
                    pace.tick().await;
                    if stop.load(Ordering::Relaxed) {
                        return;
                    }
                    let id = format!("{agent}-{caller}-{n}");
                    let uri = format!("/{id}");
                    let started = Instant::now();
                    let event = request(&id, &uri);
                    let called = pool.send_within(agent, &id, &event, deadline);
                    let called = timeout(2 * PATIENCE, called).await;
                    pool.clear_correlation_affinity(&id);
                    let error = match called.expect("the call hangs") {
                        Ok(response) => {
                            assert_eq!(echoed(response), uri, "the answer to another call");
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

    /// Waits for some answers to calls that are made from now on.
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

/// Nothing is left behind: no slot, no affinity, no call that is not counted.
async fn expect_clean(pool: &AgentPool, agent: &'static str) {
    let stats = pool.agent_stats(agent).await.unwrap();
    assert_eq!(stats.total_in_flight, 0);
    assert_eq!(pool.correlation_affinity_count(), 0);
    assert_eq!(
        stats.calls.made,
        stats.calls.answered + stats.calls.failed()
    );
    let as_many_as_there_are_slots = (0..400).map(|n| {
        let (pool, id) = (pool.clone(), format!("burst-{n}"));
        tokio::spawn(async move {
            let answered = pool.send(agent, &id, &request(&id, &id)).await;
            pool.clear_correlation_affinity(&id);
            assert_eq!(echoed(answered.unwrap()), id);
        })
    });
    for call in as_many_as_there_are_slots.collect::<Vec<_>>() {
        call.await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_agent_is_killed_and_restarted_under_traffic() {
    let dir = tempfile::tempdir().unwrap();
    let socket = dir.path().join("agent.sock");
    let (mut agent, _) = AgentProcess::start(&socket).await;
    let pool = common::pool_with(AgentPoolConfig::default(), &socket).await;
    let traffic = Traffic::to(&pool, "agent", 1_000, PATIENCE);
    for _ in 0..3 {
        traffic.goes_on(200).await;
        let in_flight = pool.agent_stats("agent").await.unwrap().total_in_flight;
        let failed = traffic.count(|call| call.error.is_some());
        let killed = Instant::now();
        agent.kill();
        // Longer than the first waits between attempts to reconnect.
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
        // What was in flight was counted a moment before the kill.
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
async fn an_agent_is_stopped_and_continued_under_traffic() {
    const DEADLINE: Duration = Duration::from_millis(100);
    /// A machine that does other things as well moves the 99th percentile of short calls by this much.
    const NOISE: Duration = Duration::from_millis(1);
    let dir = tempfile::tempdir().unwrap();
    let (agent, _) = AgentProcess::start(&dir.path().join("agent.sock")).await;
    let (other, _) = AgentProcess::start(&dir.path().join("other.sock")).await;
    let config = AgentPoolConfig {
        circuit_breaker_reset_timeout: Duration::from_millis(100),
        ..AgentPoolConfig::default()
    };
    let pool = common::pool_with(config, &agent.socket).await;
    pool.add_agent("other", other.socket.to_str().unwrap())
        .await
        .unwrap();
    let traffic = Traffic::to(&pool, "agent", 500, DEADLINE);
    let others = Traffic::to(&pool, "other", 500, PATIENCE);
    let began = Instant::now();

    let mut rounds = Vec::new();
    for _ in 0..3 {
        others.goes_on(1_000).await;
        let stopped = Instant::now();
        agent.signal("STOP");
        eventually("its connections leave the rotation", async || {
            let stats = pool.agent_stats("agent").await.unwrap();
            stats.healthy_connections == 0 && !stats.is_healthy
        })
        .await;
        let out = Instant::now();
        others.goes_on(1_000).await;
        let fast = traffic.count(|call| call.at >= out && call.took < DEADLINE / 2);
        let slow = traffic.count(|call| call.at >= out && call.took >= DEADLINE / 2);
        // Those that wait are the breaker's trials.
        assert!(
            fast > 100 && slow <= 4 + fast / 20,
            "{fast} calls failed fast, {slow} waited"
        );
        rounds.push((stopped, Instant::now()));
        agent.signal("CONT");
        traffic.goes_on(200).await;
    }

    let late = common::faults(&pool).await.late_answers;
    assert!(late > 0, "no answer was late");
    let (finished, others) = (traffic.end().await, others.end().await);
    for call in &finished {
        // The tests of one machine run side by side, which is not the pool's doing.
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
    // What else the machine does may hit one round or another, but what the pool does hits all.
    let is_still = |&(before, during): &(Duration, Duration)| during <= before + before / 5 + NOISE;
    assert!(
        moved.iter().any(is_still),
        "99th percentiles before and while the other was stopped: {moved:?}"
    );
    expect_clean(&pool, "agent").await;
}
