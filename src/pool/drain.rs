//! Ends connections without losing the calls and exchanges on them.

use super::member::{Member, Membership};
use super::{AgentPool, Agents, Inner};
use crate::connection::Connection;
use crate::protocol::CancelReason;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use tokio::runtime::Handle;
use tokio::time::timeout;

impl AgentPool {
    /// Shuts the pool down: waits for the work in progress, then closes all connections and removes
    /// all agents.
    ///
    /// The pool closes at once: new exchanges and added agents are rejected with
    /// [`Unavailable`](crate::CallError::Unavailable). Pending calls and existing
    /// [`Exchange`](super::Exchange)s get up to
    /// [`drain_timeout`](super::AgentPoolConfig::drain_timeout) to finish; what is left then is
    /// cancelled. Exchanges that are known only by their correlation id are waited for only while
    /// they have a pending call.
    ///
    /// Afterwards the pool is empty and may be used again: add agents as to a new pool.
    ///
    /// Dropping the future before it completes reopens the pool with the agents that it has. While
    /// several shutdowns are in progress, the pool stays closed until the last one has ended.
    pub async fn shutdown(&self) {
        let inner = &self.inner;
        let _in_progress = ShutdownGuard::new(&inner.shutdowns);
        let agents = inner.agents.load_full();
        for agent in agents.values() {
            // Calls that wait for a slot find the pool closed.
            agent.state.shared.queues.wake();
        }
        // What is in use after this time is cancelled.
        let _ = timeout(inner.config.drain_timeout, wait_idle(&agents)).await;
        for agent in inner.agents.load_full().values() {
            cancel(agent.snapshot_full().open_connections()).await;
        }
        // Nothing is awaited from here on: a shutdown that is dropped has closed all agents or
        // none.
        inner.close_all();
    }
}

/// A shutdown in progress. The pool is closed while there is one.
struct ShutdownGuard<'a>(&'a AtomicUsize);

impl<'a> ShutdownGuard<'a> {
    fn new(shutdowns: &'a AtomicUsize) -> Self {
        shutdowns.fetch_add(1, Ordering::SeqCst);
        Self(shutdowns)
    }
}

impl Drop for ShutdownGuard<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

impl Inner {
    /// Returns whether a shutdown is in progress, so that no new exchanges and agents are taken.
    pub(super) fn is_closing(&self) -> bool {
        self.shutdowns.load(Ordering::Relaxed) > 0
    }

    /// Removes all agents and closes their connections.
    fn close_all(&self) {
        for agent in self.agents.load().values() {
            self.retired_counters.keep(&agent.state);
        }
        for (agent, last) in self.take_out_all(Membership::Removed) {
            last.close();
            self.forget(agent.id());
        }
    }
}

impl Member {
    /// Retires connections that have left the snapshot, and closes them in the background once they
    /// are unused or the drain timeout has passed.
    pub(super) fn retire(&self, connections: Vec<Arc<Connection>>) {
        for connection in &connections {
            connection.retire();
        }
        // Calls that wait for a slot find the successor's connections, or that the agent was
        // removed.
        self.state.shared.queues.wake();
        let retired = RetiredConnections(connections);
        let Ok(runtime) = Handle::try_current() else {
            return;
        };
        let drain_timeout = self.config.drain_timeout;
        runtime.spawn(async move {
            let unused = async {
                // Retired connections take nothing new, so each one is waited for only once.
                for connection in &retired.0 {
                    connection.wait_unused().await;
                }
            };
            // What is in use after this time is cancelled.
            let _ = timeout(drain_timeout, unused).await;
            let open = retired.0.iter().filter(|connection| connection.is_open());
            cancel(open).await;
        });
    }
}

/// Connections that are being drained. They are closed when this is dropped: at the end of the
/// drain, or earlier if the runtime of the drain ends. Nothing else would close them then.
struct RetiredConnections(Vec<Arc<Connection>>);

impl Drop for RetiredConnections {
    fn drop(&mut self) {
        self.0.iter().for_each(|connection| connection.close());
    }
}

/// Waits until no connection of any agent is in use.
async fn wait_idle(agents: &Agents) {
    let connections = || {
        let snapshots = agents.values().map(|agent| agent.snapshot_full());
        let connections = snapshots.flat_map(|snapshot| snapshot.connections().to_vec());
        connections.filter(|connection| connection.is_open())
    };
    // Pinned exchanges may make calls on one connection while another is waited for.
    while connections().any(|connection| connection.is_used()) {
        for connection in connections() {
            connection.wait_idle().await;
        }
    }
}

async fn cancel(connections: impl Iterator<Item = &Arc<Connection>>) {
    for connection in connections.filter(|connection| connection.in_flight() > 0) {
        // Fails only if the connection ends first, and then its calls have failed already.
        let _ = connection.cancel_all(CancelReason::ProxyShutdown).await;
    }
}

/// The clock is paused, so it stands still as long as a task is ready to run: a drain that waited
/// for a timer would not end.
#[cfg(all(test, feature = "__bench"))]
mod tests {
    use super::*;
    use crate::connection::{Binding, ExchangeGuard, TimeLimit};
    use crate::pool::AgentPoolConfig;
    use crate::pool::call::CallParams;
    use crate::pool::fixture::{Fixture, connections};
    use crate::protocol::EventType;
    use tokio::task::yield_now;
    use tokio::time::{Duration, Instant};

    async fn let_others_run() {
        for _ in 0..10 {
            yield_now().await;
        }
    }

    fn are_open(connections: &[Arc<Connection>]) -> bool {
        connections.iter().all(|connection| connection.is_open())
    }

    /// Removes the agent, checks that its connections stay open until `release` is called, and then
    /// that they are closed at once.
    async fn expect_drain_ends_by(pool: &AgentPool, release: impl FnOnce()) {
        let connections = connections(&pool.agent("agent").expect("a known agent"));
        let started = Instant::now();
        pool.remove("agent").expect("a known agent");
        let_others_run().await;
        assert!(are_open(&connections), "closed while in use");
        release();
        let_others_run().await;
        let are_closed = connections.iter().all(|connection| !connection.is_open());
        assert!(are_closed, "open although unused");
        assert_eq!(started.elapsed(), Duration::ZERO);
    }

    #[tokio::test(start_paused = true)]
    async fn removing_the_last_pin_ends_a_drain() {
        let fixture = Fixture::new(&["agent", "other"]);
        let (one, two) = (fixture.connections("agent"), fixture.connections("other"));
        // Neither the pins of another agent nor earlier pins of the same id count.
        fixture.pin("replaced", &one[0]);
        fixture.pin("replaced", &one[1]);
        fixture.pin("replaced", &two[0]);
        fixture.pin("other", &two[0]);
        let affinities = &fixture.pool.inner.affinities;
        affinities.unpin("replaced", "agent");
        affinities.unpin("replaced", "agent");
        fixture.pin("kept", &one[1]);
        fixture.pin("kept", &two[1]);
        let clear = || fixture.pool.unpin("kept");
        expect_drain_ends_by(&fixture.pool, clear).await;
        assert!(are_open(&two));
        assert_eq!(affinities.len(), 2, "only the pin that was kept is gone");
    }

    #[tokio::test(start_paused = true)]
    async fn expired_pins_end_a_drain() {
        let config = AgentPoolConfig {
            correlation_affinity_ttl: Duration::ZERO,
            ..AgentPoolConfig::default()
        };
        let fixture = Fixture::with_config(&["agent"], config);
        fixture.pin("a", &fixture.connections("agent")[0]);
        fixture.pin("b", &fixture.connections("agent")[1]);
        let expire = || {
            let affinities = &fixture.pool.inner.affinities;
            // Both ways in which an entry that has expired is found. Expiry counts whole
            // milliseconds of real time.
            while affinities.pinned("a", "agent").is_some() {}
            while affinities.len() > 0 {
                affinities.remove_expired();
            }
        };
        expect_drain_ends_by(&fixture.pool, expire).await;
    }

    #[tokio::test(start_paused = true)]
    async fn pins_that_find_the_map_full_are_not_counted() {
        let config = AgentPoolConfig {
            max_correlation_affinities: 1,
            ..AgentPoolConfig::default()
        };
        let fixture = Fixture::with_config(&["agent"], config);
        fixture.pin("a", &fixture.connections("agent")[0]);
        fixture.pin("b", &fixture.connections("agent")[1]);
        assert_eq!(fixture.pool.inner.affinities.rejections(), 1);
        let unpin = || fixture.pool.inner.affinities.unpin("a", "agent");
        expect_drain_ends_by(&fixture.pool, unpin).await;
    }

    #[tokio::test(start_paused = true)]
    async fn dropping_the_last_exchange_ends_a_drain() {
        let fixture = Fixture::new(&["agent"]);
        let exchange = fixture
            .agent("agent")
            .exchange("c-1")
            .expect("a connection");
        expect_drain_ends_by(&fixture.pool, || drop(exchange)).await;
    }

    #[tokio::test(start_paused = true)]
    async fn the_end_of_the_last_call_ends_a_drain() {
        let fixture = Fixture::new(&["agent"]);
        let agent = fixture.agent("agent").0;
        let params = CallParams {
            correlation: agent.correlation("c-1"),
            kind: EventType::RequestHeaders,
            limit: TimeLimit::fixed(Duration::from_secs(5)),
        };
        let connection = &fixture.connections("agent")[0];
        let call = agent
            .open_on(connection, Binding::Free, params)
            .expect("a free slot");
        expect_drain_ends_by(&fixture.pool, || drop(call)).await;
    }

    #[tokio::test(start_paused = true)]
    async fn a_lost_connection_ends_a_drain() {
        let fixture = Fixture::new(&["agent"]);
        let connections = fixture.connections("agent");
        fixture.pin("a", &connections[0]);
        let exchange = ExchangeGuard::of(&connections[1]).expect("an open connection");
        fixture.pool.remove("agent").expect("an agent");
        let_others_run().await;
        let tasks = || Handle::current().metrics().num_alive_tasks();
        assert_eq!(tasks(), 1, "ended while in use");
        connections.iter().for_each(|connection| connection.close());
        let_others_run().await;
        assert_eq!(tasks(), 0, "waits for lost connections");
        drop(exchange);
    }

    #[test]
    fn a_drain_that_ends_with_its_runtime_closes_the_connections() {
        let fixture = Fixture::new(&["agent"]);
        let connections = fixture.connections("agent");
        let exchange = fixture
            .agent("agent")
            .exchange("c-1")
            .expect("a connection");
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .build()
            .expect("a runtime");
        runtime
            .block_on(async { fixture.pool.remove("agent") })
            .expect("a known agent");
        assert!(are_open(&connections), "closed while in use");
        drop(runtime);
        assert!(connections.iter().all(|connection| !connection.is_open()));
        drop(exchange);
    }

    #[tokio::test(start_paused = true)]
    async fn drains_that_wait_for_different_things_do_not_block_each_other() {
        let fixture = Fixture::new(&["agent"]);
        let connections = fixture.connections("agent");
        fixture.pin("a", &connections[0]);
        let exchange = fixture
            .agent("agent")
            .exchange("c-1")
            .expect("a connection");
        let pool = fixture.pool.clone();
        let shutdown = tokio::spawn(async move { pool.shutdown().await });
        let_others_run().await;
        fixture.pool.remove("agent").expect("an agent");
        let_others_run().await;
        drop(exchange);
        let_others_run().await;
        assert!(shutdown.is_finished(), "the shutdown waits for a pin");
        assert!(are_open(&connections), "the removal does not");
        fixture.pool.unpin("a");
        let_others_run().await;
        assert!(!connections[0].is_open());
    }

    /// Each call of `pin`, `unpin` and the like may meet another thread's change of the same id.
    #[test]
    fn pins_are_counted_exactly_under_concurrent_changes() {
        let config = AgentPoolConfig {
            max_correlation_affinities: 50,
            correlation_affinity_ttl: Duration::from_millis(1),
            ..AgentPoolConfig::default()
        };
        let fixture = Fixture::with_config(&["agent", "other"], config);
        let agents = ["agent", "other"].map(|id| (id, fixture.connections(id)));
        std::thread::scope(|scope| {
            for seed in 0..4_u64 {
                let (pool, agents) = (&fixture.pool, &agents);
                scope.spawn(move || {
                    let affinities = &pool.inner.affinities;
                    let mut random = fastrand::Rng::with_seed(seed);
                    for _ in 0..20_000 {
                        let id = random.u32(..100).to_string();
                        let (agent, connections) = &agents[random.usize(..2)];
                        match random.u32(..5) {
                            0 => pool.unpin(&id),
                            1 => affinities.unpin(&id, agent),
                            2 => drop(affinities.pinned(&id, agent)),
                            3 if random.u32(..100) == 0 => drop(affinities.remove_expired()),
                            _ => affinities.pin(&id, &connections[random.usize(..2)]),
                        }
                    }
                });
            }
        });
        let pins = || {
            let connections = agents.iter().flat_map(|(_, connections)| connections);
            connections
                .map(|connection| connection.pins())
                .sum::<usize>()
        };
        assert!(pins() <= 100, "more than the map holds");
        for id in 0..100 {
            fixture.pool.unpin(&id.to_string());
        }
        assert_eq!(pins(), 0);
    }
}
