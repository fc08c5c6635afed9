//! What keeps connections alive: replacing lost ones, probing silent ones, forgetting what is outdated.

use super::agents::AgentEntry;
use super::repair::UnderWay;
use super::reverse::Farewell;
use super::{AgentPool, Inner};
use crate::connection::{Connection, Home, Origin, ProbeGuard};
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

/// What asks for upkeep and who does it.
#[derive(Debug, Default)]
pub(super) struct Upkeep {
    /// Notified when there is something to do.
    pub(super) requested: Arc<Notify>,
    /// Held by the one who does it.
    turn: Mutex<()>,
    /// Whether the pool's own task is at it, or about to be.
    is_spawned: AtomicBool,
}

/// A connection that was of use for no longer than this was in vain.
const PROOF: Duration = Duration::from_secs(10);

/// How long an agent's wish for its settings is remembered where the pool has none for it.
const MAX_PENDING_RELOAD: Duration = Duration::from_secs(5 * 60);

type Work = FuturesUnordered<BoxFuture<'static, ()>>;

impl AgentPool {
    /// Looks after the connections for ever: replaces lost ones, pings silent ones, removes expired affinities
    /// and sessions.
    ///
    /// The pool does so by itself, on the runtime where its first agent was added, unless
    /// [`self_maintained`](super::AgentPoolConfig::self_maintained) is off. Where several do it one works and the
    /// others stand by.
    pub async fn run_maintenance(&self) {
        self.inner.maintain().await;
    }

    /// Has the pool look after itself, if it is to and does not do so yet.
    pub(super) fn start_upkeep(&self) {
        self.inner.start_upkeep();
    }
}

impl Inner {
    /// Has upkeep look for an agent that a call has found no connection to.
    pub(super) fn demand(self: &Arc<Self>, agent_id: &str) {
        if let Some(agent) = self.agents.load().get(agent_id) {
            agent.repair.demand();
        }
        // The runtime that it ran on may be gone.
        self.start_upkeep();
    }

    pub(super) fn start_upkeep(self: &Arc<Self>) {
        if !self.config.self_maintained || self.upkeep.is_spawned.load(Ordering::Acquire) {
            return;
        }
        let Ok(runtime) = Handle::try_current() else {
            return;
        };
        if self.upkeep.is_spawned.swap(true, Ordering::AcqRel) {
            return;
        }
        let spawned = Spawned(Arc::clone(self));
        let mut pool_lives = self.lives.clone();
        runtime.spawn(async move {
            tokio::select! {
                () = spawned.0.maintain() => {}
                () = until_dropped(&mut pool_lives) => {}
            }
        });
    }

    async fn maintain(self: &Arc<Self>) {
        let _turn = self.upkeep.turn.lock().await;
        let mut ticks = interval(self.config.health_check_interval.max(MIN_CHECK_INTERVAL));
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut work = Work::new();
        loop {
            self.find_work(&work);
            tokio::select! {
                _ = ticks.tick() => self.look_at_everything(&work),
                () = self.upkeep.requested.notified() => {}
                Some(()) = work.next() => {}
            }
        }
    }

    /// Begins repairs and probes that are due.
    fn find_work(self: &Arc<Self>, work: &Work) {
        let home = self.home();
        for agent in self.agents.load().iter() {
            if self.is_incomplete(agent, home)
                && let Some(under_way) = agent.repair.begin(home)
            {
                work.push(Box::pin(repair(
                    Arc::clone(self),
                    Arc::clone(agent),
                    home,
                    under_way,
                )));
            }
            if agent.is_gone()
                && let Some(farewell) = Farewell::begin(agent)
            {
                work.push(Box::pin(farewell.bid(Arc::clone(self))));
            }
            if self.wants_settings(agent) {
                work.push(Box::pin(Arc::clone(self).reconfigure(Arc::clone(agent))));
            }
            let failing = |connection: &&Arc<Connection>| connection.condition().is_failing();
            self.probe(agent.open_connections().filter(failing), work);
        }
        for delivery in self.pusher.deliveries() {
            work.push(Box::pin(Arc::clone(self).deliver(delivery)));
        }
    }

    fn look_at_everything(self: &Arc<Self>, work: &Work) {
        self.sessions.remove_outdated();
        self.reported.expire_old_metrics();
        self.pusher.expire_old();
        self.updates.load().clear_old_pending(MAX_PENDING_RELOAD);
        let forgotten = self.affinities.remove_outdated();
        if forgotten > 0 {
            tracing::debug!(forgotten, "exchanges without events were forgotten");
        }
        let now = now_ms();
        let is_silent = |connection: &&Arc<Connection>| {
            connection.silence() >= self.config.health_check_interval
        };
        for agent in self.agents.load().iter() {
            for connection in agent.open_connections() {
                connection.condition().forget_stale_report(now);
            }
            if self.lacks_settings(agent) {
                work.push(Box::pin(Arc::clone(self).reconfigure(Arc::clone(agent))));
            }
            self.probe(agent.open_connections().filter(is_silent), work);
        }
    }

    fn probe<'a>(&self, connections: impl Iterator<Item = &'a Arc<Connection>>, work: &Work) {
        for probe in connections.filter_map(Connection::begin_probe) {
            work.push(Box::pin(probed(probe, self.config.ping_timeout)));
        }
    }

    fn is_incomplete(&self, agent: &AgentEntry, home: Option<Home>) -> bool {
        self.lacks_connections(agent, home)
            || agent.open_connections().count() < agent.connections().len()
    }

    /// Whether the pool is to connect to the agent, for everybody or for one runtime.
    pub(super) fn lacks_connections(&self, agent: &AgentEntry, home: Option<Home>) -> bool {
        let open = agent
            .connections_of(Origin::Forward)
            .filter(|connection| connection.is_open())
            .filter(|connection| home.is_none() || connection.home() == home);
        agent.endpoint.is_some() && open.count() < self.config.connections_per_agent.max(1)
    }

    /// Takes connections that have ended out of the rotation; returns the agent as it is then. `None` if it was
    /// replaced or removed.
    fn drop_ended(&self, agent: &AgentEntry) -> Option<Arc<AgentEntry>> {
        self.change(|agents| {
            let current = Arc::clone(still_there(agents.get(&agent.record.id), agent)?);
            let (open, ended): (Vec<_>, Vec<_>) = current
                .connections()
                .iter()
                .cloned()
                .partition(|connection| connection.is_open());
            if ended.is_empty() {
                return Some(current);
            }
            let was_of_use = |connection: &Arc<Connection>| {
                connection.has_received() || connection.age() >= PROOF
            };
            current
                .repair
                .lost_connections(open.is_empty() && !ended.iter().any(was_of_use));
            agents.insert(current.with_connections(open));
            agents.get(&agent.record.id).cloned()
        })
    }

    /// Puts a new connection into the rotation, unless the agent was replaced or removed meanwhile.
    pub(super) fn join(&self, agent: &AgentEntry, connection: &Arc<Connection>) -> bool {
        self.change(|agents| {
            let Some(current) = still_there(agents.get(&agent.record.id), agent) else {
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

/// The agent as it is now, if it is the same one at the same endpoint.
pub(super) fn still_there<'a>(
    current: Option<&'a Arc<AgentEntry>>,
    agent: &AgentEntry,
) -> Option<&'a Arc<AgentEntry>> {
    current.filter(|current| Arc::ptr_eq(&current.repair, &agent.repair))
}

/// Brings an agent's connections back, however long it takes.
async fn repair(
    pool: Arc<Inner>,
    mut agent: Arc<AgentEntry>,
    home: Option<Home>,
    _under_way: UnderWay,
) {
    let mut last_failure = None;
    let mut has_connected = false;
    loop {
        match pool.drop_ended(&agent) {
            Some(current) => agent = current,
            None => return,
        }
        let Some(endpoint) = agent
            .endpoint
            .as_ref()
            .filter(|_| pool.lacks_connections(&agent, home))
        else {
            return;
        };
        if !has_connected {
            let interval = pool.config.reconnect_interval;
            agent.repair.pause(interval, last_failure.as_ref()).await;
        }
        match pool.connect(&agent.record, endpoint).await {
            Ok(connection) => {
                has_connected = true;
                if !pool.join(&agent, &connection) {
                    return connection.close();
                }
                came_up(&agent);
                pool.demand_settings(agent.id());
            }
            Err(AgentProtocolError::ConnectionFailed { cause, .. }) => {
                has_connected = false;
                log_failure(&agent, agent.repair.failed(), &cause);
                last_failure = Some(cause);
            }
            Err(error) => {
                tracing::error!(%error, "an agent cannot be connected to");
                return;
            }
        }
    }
}

fn came_up(agent: &AgentEntry) {
    let record = &agent.record;
    agent.repair.succeeded();
    record.incidents.reconnects.fetch_add(1, Ordering::Relaxed);
    record.breaker.allow_trial();
    record.lines.wake();
    tracing::info!(agent = &*record.id, "connected again");
}

/// Says so at the 1st, 2nd, 4th, 8th … time in a row.
fn log_failure(agent: &AgentEntry, failures: u32, cause: &impl std::fmt::Display) {
    if failures.is_power_of_two() {
        tracing::warn!(agent = &**agent.id(), failures, "cannot connect: {cause}");
    }
}

/// Ends a connection on which no sign of life comes.
async fn probed(connection: ProbeGuard, patience: Duration) {
    let silence = connection.silence();
    if connection.ping(patience).await.is_ok() {
        return connection.condition().succeeded();
    }
    // Whatever else came shows that the agent lives, if not that it answers.
    if connection.is_open() && connection.silence() >= silence + patience {
        tracing::warn!(
            agent = &*connection.agent().id,
            "no sign of life for {patience:?}"
        );
        connection.lose_silent();
    }
}

/// Upkeep by the pool's own task; when that ends, another may be started.
struct Spawned(Arc<Inner>);

impl Drop for Spawned {
    fn drop(&mut self) {
        self.0.upkeep.is_spawned.store(false, Ordering::Release);
    }
}

pub(super) async fn until_dropped(pool_lives: &mut watch::Receiver<()>) {
    while pool_lives.changed().await.is_ok() {}
}

const MIN_CHECK_INTERVAL: Duration = Duration::from_millis(1);
