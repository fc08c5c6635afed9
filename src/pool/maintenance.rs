//! Maintenance: the pool's background task. It replaces lost connections, probes silent ones,
//! brings settings and pushes to agents, and removes what has expired.
//!
//! One loop starts all work, and polls it in one task. Work is started in two ways:
//! * whenever maintenance is *requested* (a connection closed, settings changed, a push was added),
//!   for what the state of the agents makes due: see [`Inner::start_due_work`];
//! * at every health check, for what becomes due by the passing of time alone: see
//!   [`Inner::run_periodic_checks`].

use super::member::{Member, Snapshot};
use super::reconnect::{Lost, MIN_AGE, ReconnectGuard};
use super::reverse::GracePeriod;
use super::{AgentPool, Inner};
use crate::connection::{Connection, Origin, ProbeGuard, RuntimeId};
use crate::log::{NO_PEER, log_line};
use crate::protocol::now_ms;
use crate::transport::Endpoint;
use futures_util::future::BoxFuture;
use futures_util::stream::{FuturesUnordered, StreamExt};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio::runtime::Handle;
use tokio::sync::{Mutex, Notify, watch};
use tokio::time::{MissedTickBehavior, interval};

/// State of the maintenance of a pool.
#[derive(Debug, Default)]
pub(super) struct Maintenance {
    /// Notified when work may be due.
    pub(super) requested: Arc<Notify>,
    /// Held by the caller that runs maintenance; others wait for it.
    lock: Mutex<()>,
    /// Set while the pool's own maintenance task exists.
    is_spawned: AtomicBool,
}

/// Age from which a lost connection counts as useful although the agent sent nothing on it.
const MIN_USEFUL_AGE: Duration = Duration::from_secs(10);

/// Time after which an agent's reload request is forgotten if the pool has no settings for it.
const MAX_PENDING_RELOAD: Duration = Duration::from_secs(5 * 60);

/// Shortest interval between health checks, whatever is configured.
const MIN_CHECK_INTERVAL: Duration = Duration::from_millis(1);

/// Work in progress.
type Work = FuturesUnordered<BoxFuture<'static, ()>>;

impl AgentPool {
    /// Runs maintenance forever: replaces lost connections, pings silent ones, and removes expired
    /// pins.
    ///
    /// The pool does this by itself, on the runtime where its first agent was added, unless
    /// [`self_maintained`](super::AgentPoolConfig::self_maintained) is off. If several callers run
    /// maintenance, one of them works and the others wait to take over.
    pub async fn run_maintenance(&self) {
        self.inner.maintain().await;
    }
}

impl Inner {
    /// Spawns the maintenance task if it is enabled and does not exist.
    pub(super) fn start_maintenance(self: &Arc<Self>) {
        if !self.config.self_maintained || self.maintenance.is_spawned.load(Ordering::Acquire) {
            return;
        }
        let Ok(runtime) = Handle::try_current() else {
            return;
        };
        if self.maintenance.is_spawned.swap(true, Ordering::AcqRel) {
            return;
        }
        let spawned = SpawnedGuard(Arc::clone(self));
        let mut closed = self.closed.clone();
        runtime.spawn(async move {
            tokio::select! {
                biased;
                () = spawned.0.maintain() => {}
                () = until_dropped(&mut closed) => {}
            }
        });
    }

    async fn maintain(self: &Arc<Self>) {
        let _lock = self.maintenance.lock.lock().await;
        let mut ticks = interval(self.config.health_check_interval.max(MIN_CHECK_INTERVAL));
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut work = Work::new();
        loop {
            self.start_due_work(&work);
            tokio::select! {
                // No branch starves the others: ticks are at least `MIN_CHECK_INTERVAL` apart, and
                // a request is ready at most once in a poll.
                biased;
                _ = ticks.tick() => self.run_periodic_checks(&work),
                Some(()) = work.next() => {}
                () = self.maintenance.requested.notified() => {}
            }
        }
    }

    /// Starts the work that is due now and not in progress.
    ///
    /// Called after every request, so it must be cheap and may find nothing. Each kind of work has
    /// a guard or a flag that keeps it from being started twice; when work ends, this runs again
    /// and finds what became due meanwhile.
    ///
    /// * Reconnecting: connections are missing, or some have closed and must leave the snapshot.
    /// * Removal: an agent without an endpoint has no connections, so its grace period begins.
    /// * Settings: a caller or the agent requested that they be sent again.
    /// * Probes: calls on a connection failed repeatedly. A pong makes it usable again.
    /// * Pushes: an agent has open pushes that no task delivers.
    fn start_due_work(self: &Arc<Self>, work: &Work) {
        for agent in self.agents.load().values() {
            let snapshot = agent.snapshot_full();
            let runtime = agent.caller_runtime();
            if agent.is_incomplete(&snapshot, runtime)
                && let Some(guard) = agent.reconnect.begin(runtime)
            {
                work.push(Box::pin(Arc::clone(agent).reconnect(runtime, guard)));
            }
            if agent.is_absent(&snapshot)
                && let Some(grace_period) = GracePeriod::begin(agent, &snapshot)
            {
                work.push(Box::pin(grace_period.run()));
            }
            if agent.take_settings_request() {
                work.push(Box::pin(Arc::clone(agent).reconfigure()));
            }
            let failing = |connection: &&Arc<Connection>| connection.health.is_failing();
            agent.probe(snapshot.open_connections().filter(failing), work);
        }
        for delivery in self.pusher.deliveries() {
            work.push(Box::pin(Arc::clone(self).deliver(delivery)));
        }
    }

    /// Does what only the passing of time makes due: removes what has expired, sends settings again
    /// that an agent did not take, and probes connections on which nothing was received for a whole
    /// interval.
    fn run_periodic_checks(self: &Arc<Self>, work: &Work) {
        self.reported.expire_old_metrics();
        self.pusher.expire_old();
        self.updates.load().clear_old_pending(MAX_PENDING_RELOAD);
        let unpinned = self.affinities.remove_expired();
        if unpinned > 0 {
            log_line!(
                debug,
                NO_PEER,
                {}(unpinned),
                "exchanges without events were unpinned"
            );
        }
        let now = now_ms();
        let is_silent = |connection: &&Arc<Connection>| {
            connection.timeline.silence() >= self.config.health_check_interval
        };
        for agent in self.agents.load().values() {
            let snapshot = agent.snapshot_full();
            for connection in snapshot.open_connections() {
                connection.forget_stale_report(now);
            }
            if agent.lacks_settings() {
                work.push(Box::pin(Arc::clone(agent).reconfigure()));
            } else {
                agent.note_reload();
            }
            agent.probe(snapshot.open_connections().filter(is_silent), work);
        }
    }
}

impl Member {
    /// Shortens the wait for the next attempt to connect, because calls need the agent.
    pub(super) fn request_reconnect(&self) {
        self.reconnect.request_now();
        // The runtime of the maintenance task may have shut down.
        self.pool.start_maintenance();
    }

    /// Pings connections, except those for which a ping is in progress.
    fn probe<'a>(&self, connections: impl Iterator<Item = &'a Arc<Connection>>, work: &Work) {
        for probe in connections.filter_map(ProbeGuard::of) {
            work.push(Box::pin(probe_connection(probe, self.config.ping_timeout)));
        }
    }

    /// Returns whether connections are missing, or closed ones have to be removed.
    fn is_incomplete(&self, snapshot: &Snapshot, runtime: Option<RuntimeId>) -> bool {
        self.lacks_connections(snapshot, runtime)
            || snapshot.open_connections().count() < snapshot.connections().len()
    }

    /// Returns whether forward connections to the agent are missing, in total or for one runtime.
    pub(super) fn lacks_connections(
        &self,
        snapshot: &Snapshot,
        runtime: Option<RuntimeId>,
    ) -> bool {
        let (open, staying) = forward_of(snapshot, runtime);
        let wanted = self.config.connections_per_agent;
        // The second limit bounds what an agent can cause that asks to move again and again.
        self.endpoint.is_some() && staying < wanted && open < wanted.saturating_mul(2)
    }

    /// Retires the connections that the agent has asked to move away from, once others have taken
    /// their place.
    fn retire_moved(&self, runtime: Option<RuntimeId>) {
        let lock = self.pool.lock();
        let snapshot = self.snapshot_full();
        let (open, staying) = forward_of(&snapshot, runtime);
        if open == staying || staying < self.config.connections_per_agent || !snapshot.is_current()
        {
            return;
        }
        let is_moved = |connection: &Arc<Connection>| {
            connection.origin == Origin::Forward
                && is_of(connection, runtime)
                && connection.lifecycle.is_open()
                && !connection.lifecycle.is_staying()
        };
        let (moved, kept): (Vec<_>, Vec<_>) =
            snapshot.connections().iter().cloned().partition(is_moved);
        if moved.iter().all(|one| one.timeline.age() < MIN_AGE) {
            self.reconnect.lost_connections(Lost::Brief);
        }
        self.set_snapshot(&lock, snapshot.with_connections(kept));
        drop(lock);
        self.retire(moved);
    }

    /// Removes closed connections from the snapshot. Returns `false` if the pool no longer has the
    /// agent.
    fn remove_closed(&self) -> bool {
        let lock = self.pool.lock();
        let snapshot = self.snapshot_full();
        if !snapshot.is_current() {
            return false;
        }
        let (open, closed): (Vec<_>, Vec<_>) = snapshot
            .connections()
            .iter()
            .cloned()
            .partition(|connection| connection.lifecycle.is_open());
        if !closed.is_empty() {
            let was_useful = |connection: &Arc<Connection>| {
                connection.timeline.has_received() || connection.timeline.age() >= MIN_USEFUL_AGE
            };
            let is_brief = |connection: &Arc<Connection>| connection.timeline.age() < MIN_AGE;
            let lost = if open.is_empty() && !closed.iter().any(was_useful) {
                Lost::Useless
            } else if closed.iter().all(is_brief) {
                Lost::Brief
            } else {
                Lost::Useful
            };
            self.reconnect.lost_connections(lost);
            self.set_snapshot(&lock, snapshot.with_connections(open));
        }
        true
    }

    /// Adds a new connection to the snapshot. Returns `false` if the pool no longer has the agent.
    pub(super) fn join(&self, connection: &Arc<Connection>) -> bool {
        let lock = self.pool.lock();
        let snapshot = self.snapshot_full();
        if snapshot.is_current() {
            let mut connections = snapshot.connections().to_vec();
            connections.push(Arc::clone(connection));
            self.set_snapshot(&lock, snapshot.with_connections(connections));
        }
        snapshot.is_current()
    }

    /// Opens the missing connections, however long that takes.
    ///
    /// Pauses only before the first attempt and after failures: while the connection that was
    /// opened last is still open, the others follow at once. Ends when nothing is missing, or when
    /// the pool no longer has the agent.
    async fn reconnect(self: Arc<Self>, runtime: Option<RuntimeId>, _guard: ReconnectGuard) {
        let mut last_failure = None;
        let mut opened: Option<Arc<Connection>> = None;
        while let Some(endpoint) = self.missing(runtime) {
            if !opened.as_ref().is_some_and(|last| last.lifecycle.is_open()) {
                let interval = self.config.reconnect_interval;
                self.reconnect.pause(interval, last_failure.as_ref()).await;
            }
            match self.connect(endpoint).await {
                Ok(connection) => {
                    if !self.join(&connection) {
                        return connection.close();
                    }
                    opened = Some(connection);
                    self.note_reconnected();
                    self.request_settings();
                }
                Err(cause) => {
                    opened = None;
                    log_failure(self.id(), self.reconnect.failed(), &cause);
                    last_failure = Some(cause);
                }
            }
        }
        self.retire_moved(runtime);
    }

    /// Removes closed connections, and returns the endpoint to which connections are missing.
    fn missing(&self, runtime: Option<RuntimeId>) -> Option<&Endpoint> {
        let lacks = self.remove_closed() && self.lacks_connections(&self.snapshot(), runtime);
        self.endpoint.as_ref().filter(|_| lacks)
    }

    /// Counts a new connection, and lets calls and the circuit breaker try it.
    fn note_reconnected(&self) {
        let state = &self.state;
        self.reconnect.succeeded();
        state.counters.reconnects.fetch_add(1, Ordering::Relaxed);
        state.shared.breaker.allow_trial();
        state.shared.queues.wake();
        let agent = &*state.shared.id;
        log_line!(info, agent, { agent }, "connected again");
    }
}

/// Returns the numbers of open forward connections, of one runtime if it is given: all, and those
/// that need not be replaced.
fn forward_of(snapshot: &Snapshot, runtime: Option<RuntimeId>) -> (usize, usize) {
    let open = || {
        snapshot
            .connections_of(Origin::Forward)
            .filter(|connection| connection.lifecycle.is_open() && is_of(connection, runtime))
    };
    let staying = open().filter(|connection| connection.lifecycle.is_staying());
    (open().count(), staying.count())
}

fn is_of(connection: &Connection, runtime: Option<RuntimeId>) -> bool {
    runtime.is_none() || connection.runtime == runtime
}

/// Logs the 1st, 2nd, 4th, 8th … failure in a row.
fn log_failure(agent_id: &str, failures: u32, cause: &impl std::fmt::Display) {
    if failures.is_power_of_two() {
        log_line!(
            warn,
            agent_id,
            { agent = agent_id }(failures),
            "cannot connect: {cause}"
        );
    }
}

/// Pings a connection, and closes it if nothing was received until the timeout.
async fn probe_connection(probe: ProbeGuard, ping_timeout: Duration) {
    let connection = &probe.0;
    let silence = connection.timeline.silence();
    if connection.ping(ping_timeout).await.is_ok() {
        return connection.recover();
    }
    // Any other message shows that the agent is alive, though not that it answers.
    if connection.lifecycle.is_open() && connection.timeline.silence() >= silence + ping_timeout {
        let agent = &*connection.agent.id;
        log_line!(
            warn,
            agent,
            { agent },
            "nothing received within {ping_timeout:?} after a ping; closing the connection"
        );
        connection.close_on_error(&"the agent does not respond");
    }
}

/// The pool's own maintenance task. When it ends, with its runtime for example, another may be
/// spawned.
struct SpawnedGuard(Arc<Inner>);

impl Drop for SpawnedGuard {
    fn drop(&mut self) {
        self.0
            .maintenance
            .is_spawned
            .store(false, Ordering::Release);
    }
}

/// Waits until the last handle of the pool is dropped.
pub(super) async fn until_dropped(closed: &mut watch::Receiver<()>) {
    while closed.changed().await.is_ok() {}
}

#[cfg(all(test, feature = "__bench"))]
#[path = "../../tests/unit/pool/maintenance.rs"]
mod tests;
