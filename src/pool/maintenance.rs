//! Maintenance: the pool's background task. It replaces lost connections, probes silent ones,
//! brings settings and pushes to agents, and removes what has expired.
//!
//! One loop starts all work, and polls it in one task. Work is started in two ways:
//! * whenever maintenance is *requested* (a connection closed, settings changed, a push was added),
//!   for what the state of the agents makes due: see [`Inner::start_due_work`];
//! * at every health check, for what becomes due by the passing of time alone: see
//!   [`Inner::run_periodic_checks`].

use super::agents::AgentEntry;
use super::reconnect::{Lost, MIN_AGE, ReconnectGuard};
use super::reverse::GracePeriod;
use super::{AgentPool, Inner};
use crate::connection::{Connection, Origin, ProbeGuard, RuntimeId};
use crate::error::AgentProtocolError;
use crate::protocol::now_ms;
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
    /// pins and sessions.
    ///
    /// The pool does this by itself, on the runtime where its first agent was added, unless
    /// [`self_maintained`](super::AgentPoolConfig::self_maintained) is off. If several callers run
    /// maintenance, one of them works and the others wait to take over.
    pub async fn run_maintenance(&self) {
        self.inner.maintain().await;
    }
}

impl Inner {
    /// Shortens the wait for the next attempt to connect to an agent that calls need.
    pub(super) fn request_reconnect(self: &Arc<Self>, agent_id: &str) {
        if let Some(agent) = self.agents.load().get(agent_id) {
            agent.reconnect.request_now();
        }
        // The runtime of the maintenance task may have shut down.
        self.start_maintenance();
    }

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
        let runtime = self.caller_runtime();
        for agent in self.agents.load().iter() {
            if self.is_incomplete(agent, runtime)
                && let Some(guard) = agent.reconnect.begin(runtime)
            {
                work.push(Box::pin(reconnect(
                    Arc::clone(self),
                    Arc::clone(agent),
                    runtime,
                    guard,
                )));
            }
            if agent.is_absent()
                && let Some(grace_period) = GracePeriod::begin(agent)
            {
                work.push(Box::pin(grace_period.run(Arc::clone(self))));
            }
            if self.take_settings_request(agent) {
                work.push(Box::pin(Arc::clone(self).reconfigure(Arc::clone(agent))));
            }
            let failing = |connection: &&Arc<Connection>| connection.health().is_failing();
            self.probe(agent.open_connections().filter(failing), work);
        }
        for delivery in self.pusher.deliveries() {
            work.push(Box::pin(Arc::clone(self).deliver(delivery)));
        }
    }

    /// Does what only the passing of time makes due: removes what has expired, sends settings again
    /// that an agent did not take, and probes connections on which nothing was received for a whole
    /// interval.
    fn run_periodic_checks(self: &Arc<Self>, work: &Work) {
        self.sessions.remove_expired();
        self.reported.expire_old_metrics();
        self.pusher.expire_old();
        self.updates.load().clear_old_pending(MAX_PENDING_RELOAD);
        let unpinned = self.affinities.remove_expired();
        if unpinned > 0 {
            tracing::debug!(unpinned, "exchanges without events were unpinned");
        }
        let now = now_ms();
        let is_silent = |connection: &&Arc<Connection>| {
            connection.silence() >= self.config.health_check_interval
        };
        for agent in self.agents.load().iter() {
            for connection in agent.open_connections() {
                connection.health().forget_stale_report(now);
            }
            if self.lacks_settings(agent) {
                work.push(Box::pin(Arc::clone(self).reconfigure(Arc::clone(agent))));
            } else {
                self.note_reload(agent);
            }
            self.probe(agent.open_connections().filter(is_silent), work);
        }
    }

    /// Pings connections, except those for which a ping is in progress.
    fn probe<'a>(&self, connections: impl Iterator<Item = &'a Arc<Connection>>, work: &Work) {
        for probe in connections.filter_map(Connection::begin_probe) {
            work.push(Box::pin(probe_connection(probe, self.config.ping_timeout)));
        }
    }

    /// Returns whether connections are missing, or closed ones have to be removed.
    fn is_incomplete(&self, agent: &AgentEntry, runtime: Option<RuntimeId>) -> bool {
        self.lacks_connections(agent, runtime)
            || agent.open_connections().count() < agent.connections().len()
    }

    /// Returns whether forward connections to the agent are missing, in total or for one runtime.
    pub(super) fn lacks_connections(&self, agent: &AgentEntry, runtime: Option<RuntimeId>) -> bool {
        let open = agent
            .connections_of(Origin::Forward)
            .filter(|connection| connection.is_open())
            .filter(|connection| runtime.is_none() || connection.runtime() == runtime);
        agent.endpoint.is_some() && open.count() < self.config.connections_per_agent.max(1)
    }

    /// Removes closed connections from the snapshot and returns the resulting agent; `None` if the
    /// agent was replaced or removed.
    fn remove_closed(&self, agent: &AgentEntry) -> Option<Arc<AgentEntry>> {
        self.change(|agents| {
            let current = Arc::clone(same_agent(agents.get(&agent.state.id), agent)?);
            let (open, closed): (Vec<_>, Vec<_>) = current
                .connections()
                .iter()
                .cloned()
                .partition(|connection| connection.is_open());
            if closed.is_empty() {
                return Some(current);
            }
            let was_useful = |connection: &Arc<Connection>| {
                connection.has_received() || connection.age() >= MIN_USEFUL_AGE
            };
            let is_brief = |connection: &Arc<Connection>| connection.age() < MIN_AGE;
            let lost = if open.is_empty() && !closed.iter().any(was_useful) {
                Lost::Useless
            } else if closed.iter().all(is_brief) {
                Lost::Brief
            } else {
                Lost::Useful
            };
            current.reconnect.lost_connections(lost);
            agents.insert(current.with_connections(open));
            agents.get(&agent.state.id).cloned()
        })
    }

    /// Adds a new connection to an agent. Returns `false` if the agent was replaced or removed
    /// meanwhile.
    pub(super) fn join(&self, agent: &AgentEntry, connection: &Arc<Connection>) -> bool {
        self.change(|agents| {
            let Some(current) = same_agent(agents.get(&agent.state.id), agent) else {
                return false;
            };
            let mut connections = current.connections().to_vec();
            connections.push(Arc::clone(connection));
            let changed = current.with_connections(connections);
            agents.insert(changed);
            true
        })
    }
}

/// Returns the current entry of an agent, unless the agent was replaced or removed since.
///
/// Entries of one agent at one endpoint share their [`Reconnect`](super::reconnect::Reconnect).
pub(super) fn same_agent<'a>(
    current: Option<&'a Arc<AgentEntry>>,
    agent: &AgentEntry,
) -> Option<&'a Arc<AgentEntry>> {
    current.filter(|current| Arc::ptr_eq(&current.reconnect, &agent.reconnect))
}

/// Opens an agent's missing connections, however long that takes.
///
/// Pauses only before the first attempt and after failures: while the connection that was opened
/// last is still open, the others follow at once. Ends when nothing is missing, or when the agent
/// was replaced or removed.
async fn reconnect(
    pool: Arc<Inner>,
    mut agent: Arc<AgentEntry>,
    runtime: Option<RuntimeId>,
    _guard: ReconnectGuard,
) {
    let mut last_failure = None;
    let mut opened: Option<Arc<Connection>> = None;
    loop {
        match pool.remove_closed(&agent) {
            Some(current) => agent = current,
            None => return,
        }
        let Some(endpoint) = agent
            .endpoint
            .as_ref()
            .filter(|_| pool.lacks_connections(&agent, runtime))
        else {
            return;
        };
        if !opened.as_ref().is_some_and(|last| last.is_open()) {
            let interval = pool.config.reconnect_interval;
            agent.reconnect.pause(interval, last_failure.as_ref()).await;
        }
        match pool.connect(&agent.state, endpoint).await {
            Ok(connection) => {
                if !pool.join(&agent, &connection) {
                    return connection.close();
                }
                opened = Some(connection);
                note_reconnected(&agent);
                pool.request_settings(agent.id());
            }
            Err(AgentProtocolError::ConnectionFailed { cause, .. }) => {
                opened = None;
                log_failure(&agent, agent.reconnect.failed(), &cause);
                last_failure = Some(cause);
            }
            Err(error) => {
                tracing::error!(%error, "giving up connecting to an agent");
                return;
            }
        }
    }
}

/// Counts a new connection, and lets calls and the circuit breaker try it.
fn note_reconnected(agent: &AgentEntry) {
    let state = &agent.state;
    agent.reconnect.succeeded();
    state.counters.reconnects.fetch_add(1, Ordering::Relaxed);
    state.breaker.allow_trial();
    state.queues.wake();
    tracing::info!(agent = &*state.id, "connected again");
}

/// Logs the 1st, 2nd, 4th, 8th … failure in a row.
fn log_failure(agent: &AgentEntry, failures: u32, cause: &impl std::fmt::Display) {
    if failures.is_power_of_two() {
        tracing::warn!(agent = &**agent.id(), failures, "cannot connect: {cause}");
    }
}

/// Pings a connection, and closes it if nothing was received until the timeout.
async fn probe_connection(connection: ProbeGuard, ping_timeout: Duration) {
    let silence = connection.silence();
    if connection.ping(ping_timeout).await.is_ok() {
        return connection.health().succeeded();
    }
    // Any other message shows that the agent is alive, though not that it answers.
    if connection.is_open() && connection.silence() >= silence + ping_timeout {
        tracing::warn!(
            agent = &*connection.agent().id,
            "nothing received within {ping_timeout:?} after a ping; closing the connection"
        );
        connection.close_unresponsive();
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
