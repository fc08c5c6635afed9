//! Pushes of config updates to agents: their order, retries and results.

use crate::backoff::delay;
use crate::clock;
use crate::configuration::configuration;
use crate::entropy;
use crate::lock::lock;
use crate::protocol::{ConfigUpdateRequest, ConfigUpdateType};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use tokio::sync::Notify;

/// Time for which the result of a push is kept.
const RESULT_LIFETIME: Duration = Duration::from_secs(60);

/// Maximum number of results that are kept. Beyond it the oldest are dropped.
const MAX_RESULTS: usize = 1024;

/// Longest wait between two attempts.
const MAX_RETRY_INTERVAL: Duration = Duration::from_secs(30);

configuration! {
    /// Configuration of pushes.
    #[derive(Debug, Clone)]
    #[non_exhaustive]
    pub struct ConfigPusherConfig {
        /// Timeout of one attempt (default 10 s).
        pub ack_timeout: Duration,
        /// Maximum number of attempts after the first (default 3).
        pub max_retries: usize,
        /// Wait before the second attempt (default 2 s). Each further wait is twice as long, up to
        /// 30 s, and reduced at random by up to half.
        pub retry_interval: Duration,
        /// Maximum number of open pushes to one agent (default 100). Further pushes are rejected.
        pub max_pending_per_agent: usize,
    }
}

impl Default for ConfigPusherConfig {
    fn default() -> Self {
        Self {
            ack_timeout: Duration::from_secs(10),
            max_retries: 3,
            retry_interval: Duration::from_secs(2),
            max_pending_per_agent: 100,
        }
    }
}

/// An agent as a recipient of pushes.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct AgentConnection {
    /// Name of the agent in the pool.
    pub agent_id: String,
    /// Name that the agent announced.
    pub name: String,
    /// Time of its first connection.
    pub connected_at: Instant,
    /// Time when it last connected or answered a push.
    pub last_seen: Instant,
    /// Number of pushes that it accepted.
    pub successful_pushes: u64,
    /// Number of pushes that it rejected or that expired.
    pub failed_pushes: u64,
    /// `true` if it announced that it accepts pushes and speaks tollgate's extension.
    pub supports_push: bool,
}

/// Status of a push.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum PushStatus {
    /// The push waits for earlier ones, or for the agent.
    Pending,
    /// The push was sent and is not answered.
    Sent,
    /// The agent accepted the push.
    Acknowledged,
    /// The agent rejected the push, was removed, or no longer speaks tollgate's extension.
    Failed {
        /// Reason of the failure.
        reason: String,
    },
    /// Every attempt failed. The agent may or may not have received the push.
    Expired,
}

impl PushStatus {
    fn is_open(&self) -> bool {
        matches!(self, Self::Pending | Self::Sent)
    }
}

/// Snapshot of a push.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct PushResult {
    /// Id of the push.
    pub push_id: String,
    /// Name of the agent.
    pub agent_id: String,
    /// Status of the push.
    pub status: PushStatus,
    /// Number of attempts to send it.
    pub attempts: usize,
}

/// Keeps track of updates that are pushed to agents: their order, retries and results.
///
/// A pool has a pusher ([`AgentPool::config_pusher`](crate::AgentPool::config_pusher)) and sends
/// its updates, as the event [`Configure`](crate::events::Configure) whose `config` is the update
/// and whose `request_id` is the id of the push. An agent may get a push more than once under that
/// id.
///
/// The updates of one agent are sent one after another. A rejected update is not retried and does
/// not delay later ones.
#[derive(Debug)]
pub struct ConfigPusher {
    config: ConfigPusherConfig,
    /// Distinguishes the pushes of several proxies.
    random_id: u64,
    /// Notified when there is something to send.
    work_added: Arc<Notify>,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    agents: BTreeMap<String, Recipient>,
    /// Pushes by number, in the order in which they were added.
    pushes: BTreeMap<u64, Push>,
    made: u64,
}

#[derive(Debug)]
struct Recipient {
    connection: AgentConnection,
    /// Set while a [`Delivery`] sends the pushes of this agent.
    has_delivery: bool,
}

#[derive(Debug)]
struct Push {
    id: String,
    agent_id: String,
    update: ConfigUpdateRequest,
    due_at: Instant,
    attempts: usize,
    status: PushStatus,
    ended_at: Option<Instant>,
}

impl ConfigPusher {
    /// Creates a pusher with the default configuration.
    pub fn new() -> Self {
        Self::with_config(ConfigPusherConfig::default())
    }

    /// Creates a pusher without a pool. The caller sends its updates: see
    /// [`ConfigPusher::get_retryable`].
    pub fn with_config(config: ConfigPusherConfig) -> Self {
        Self::with_notify(config, Arc::default())
    }

    /// Creates a pusher that notifies `work_added` when there is something to send.
    pub(crate) fn with_notify(config: ConfigPusherConfig, work_added: Arc<Notify>) -> Self {
        Self {
            config,
            random_id: entropy::unique(),
            work_added,
            state: Mutex::default(),
        }
    }

    /// Adds an agent, or notes that it has connected again. The pool calls this for every
    /// connection.
    pub fn register_agent(
        &self,
        agent_id: impl Into<String>,
        name: impl Into<String>,
        supports_push: bool,
    ) {
        let (agent_id, name, now) = (agent_id.into(), name.into(), clock::now());
        let mut state = lock(&self.state);
        if let Some(known) = state.agents.get_mut(&agent_id) {
            known.connection.name = name;
            known.connection.supports_push = supports_push;
            known.connection.last_seen = now;
            return;
        }
        let connection = AgentConnection {
            agent_id: agent_id.clone(),
            name,
            connected_at: now,
            last_seen: now,
            successful_pushes: 0,
            failed_pushes: 0,
            supports_push,
        };
        let recipient = Recipient {
            connection,
            has_delivery: false,
        };
        state.agents.insert(agent_id, recipient);
    }

    /// Removes an agent. Its open pushes fail.
    pub fn unregister_agent(&self, agent_id: &str) {
        let mut state = lock(&self.state);
        state.agents.remove(agent_id);
        for push in state.open_pushes(agent_id) {
            push.end(PushStatus::Failed {
                reason: "The agent was removed".to_owned(),
            });
        }
    }

    /// Updates the time at which an agent was last seen.
    pub fn touch_agent(&self, agent_id: &str) {
        if let Some(agent) = lock(&self.state).agents.get_mut(agent_id) {
            agent.connection.last_seen = clock::now();
        }
    }

    /// Returns all agents, in alphabetical order.
    pub fn connected_agents(&self) -> Vec<AgentConnection> {
        let state = lock(&self.state);
        let agents = state.agents.values();
        agents.map(|agent| agent.connection.clone()).collect()
    }

    /// Returns the agents that accept pushes.
    pub fn pushable_agents(&self) -> Vec<AgentConnection> {
        let mut agents = self.connected_agents();
        agents.retain(|agent| agent.supports_push);
        agents
    }

    /// Adds a push of an update to an agent, and returns the id of the push.
    ///
    /// Returns `None` if the agent is unknown, does not accept pushes (the feature `config_push`
    /// and tollgate's extension), or has too many open pushes.
    pub fn push_to_agent(&self, agent_id: &str, update_type: ConfigUpdateType) -> Option<String> {
        let mut state = lock(&self.state);
        let agent = state.agents.get(agent_id)?;
        let has_room = state.open_count(agent_id) < self.config.max_pending_per_agent;
        if !agent.connection.supports_push || !has_room {
            return None;
        }
        state.made += 1;
        let number = state.made;
        let id = format!("push-{:016x}-{number}", self.random_id);
        let push = Push {
            id: id.clone(),
            agent_id: agent_id.to_owned(),
            update: ConfigUpdateRequest::new(id.clone(), update_type),
            due_at: clock::now(),
            attempts: 0,
            status: PushStatus::Pending,
            ended_at: None,
        };
        state.pushes.insert(number, push);
        drop(state);
        self.work_added.notify_one();
        Some(id)
    }

    /// Adds a push of an update to every agent that accepts pushes. Returns the ids of the pushes.
    pub fn push_to_all(&self, update_type: ConfigUpdateType) -> Vec<String> {
        self.pushable_agents()
            .iter()
            .filter_map(|agent| self.push_to_agent(&agent.agent_id, update_type.clone()))
            .collect()
    }

    /// Records an agent's answer. An answer that arrives after the end of the push changes nothing.
    pub fn acknowledge(&self, push_id: &str, accepted: bool, error: Option<String>) {
        let status = if accepted {
            PushStatus::Acknowledged
        } else {
            PushStatus::Failed {
                reason: error.unwrap_or_else(|| "Unknown error".to_owned()),
            }
        };
        lock(&self.state).end(push_id, status);
    }

    /// Returns the updates to send now, with the names of their agents, for a pusher without a
    /// pool.
    ///
    /// These are the oldest open pushes of each agent that were not sent yet or not answered in
    /// time. Each counts as an attempt.
    pub fn get_retryable(&self) -> Vec<(String, ConfigUpdateRequest)> {
        let mut state = lock(&self.state);
        let now = clock::now();
        state.expire_old(now, &self.config);
        let agents: Vec<_> = state.agents.keys().cloned().collect();
        let mut next = |agent_id: String| match state.next(&agent_id, now, &self.config) {
            Next::Send(update) => Some((agent_id, update)),
            _ => None,
        };
        agents.into_iter().filter_map(&mut next).collect()
    }

    /// Ends pushes whose last attempt failed, and drops results that are older than a minute.
    pub fn expire_old(&self) {
        lock(&self.state).expire_old(clock::now(), &self.config);
    }

    /// Returns the open pushes, and those that ended within the last minute, oldest first.
    pub fn get_results(&self) -> Vec<PushResult> {
        let state = lock(&self.state);
        state.pushes.values().map(Push::result).collect()
    }

    /// Returns the number of open pushes.
    pub fn pending_count(&self) -> usize {
        let state = lock(&self.state);
        let statuses = state.pushes.values().map(|push| &push.status);
        statuses.filter(|status| status.is_open()).count()
    }

    /// Returns the timeout of one attempt.
    pub(crate) fn ack_timeout(&self) -> Duration {
        self.config.ack_timeout
    }

    /// Records a failed attempt. Another one may follow.
    pub(crate) fn attempt_failed(&self, push_id: &str) {
        let mut state = lock(&self.state);
        let push = state.pushes.values_mut().find(|push| push.id == push_id);
        if let Some(push) = push.filter(|push| push.status.is_open()) {
            push.due_at = clock::now() + self.config.pause(push.attempts);
        }
    }

    /// Returns a delivery for every agent that has open pushes but no delivery.
    pub(crate) fn deliveries(self: &Arc<Self>) -> Vec<Delivery> {
        let mut state = lock(&self.state);
        let State { agents, pushes, .. } = &mut *state;
        let mut deliveries = Vec::new();
        for push in pushes.values().filter(|push| push.status.is_open()) {
            let agent = agents.get_mut(&push.agent_id);
            if let Some(agent) = agent.filter(|agent| !agent.has_delivery) {
                agent.has_delivery = true;
                deliveries.push(Delivery {
                    pusher: Arc::clone(self),
                    agent_id: push.agent_id.clone(),
                });
            }
        }
        deliveries
    }
}

impl Default for ConfigPusher {
    fn default() -> Self {
        Self::new()
    }
}

/// Next step of a delivery.
#[derive(Debug)]
pub(crate) enum Next {
    /// Send this update now.
    Send(ConfigUpdateRequest),
    /// Wait until this time.
    Wait(Instant),
    Nothing,
}

/// Exclusive right to send an agent's pushes, until this is dropped.
#[derive(Debug)]
pub(crate) struct Delivery {
    pusher: Arc<ConfigPusher>,
    agent_id: String,
}

impl Delivery {
    pub(crate) fn agent_id(&self) -> &str {
        &self.agent_id
    }

    pub(crate) fn next(&self) -> Next {
        let (mut state, now) = (lock(&self.pusher.state), clock::now());
        state.expire_old(now, &self.pusher.config);
        state.next(&self.agent_id, now, &self.pusher.config)
    }
}

impl Drop for Delivery {
    fn drop(&mut self) {
        let mut state = lock(&self.pusher.state);
        if let Some(agent) = state.agents.get_mut(&self.agent_id) {
            agent.has_delivery = false;
        }
        // A push that was added just now may have found the delivery still in progress.
        if state.open_count(&self.agent_id) > 0 {
            self.pusher.work_added.notify_one();
        }
    }
}

impl ConfigPusherConfig {
    /// Returns the wait after this many attempts.
    fn pause(&self, attempts: usize) -> Duration {
        let attempts = u32::try_from(attempts).unwrap_or(u32::MAX);
        delay(self.retry_interval, MAX_RETRY_INTERVAL, attempts)
    }
}

impl State {
    fn open_pushes(&mut self, agent_id: &str) -> impl Iterator<Item = &mut Push> {
        self.pushes
            .values_mut()
            .filter(move |push| push.agent_id == agent_id && push.status.is_open())
    }

    fn open_count(&self, agent_id: &str) -> usize {
        let pushes = self.pushes.values();
        let is_open = |push: &&Push| push.agent_id == agent_id && push.status.is_open();
        pushes.filter(is_open).count()
    }

    /// Ends pushes whose last attempt failed, and drops results that are older than a minute.
    fn expire_old(&mut self, now: Instant, config: &ConfigPusherConfig) {
        let is_over = |push: &Push| push.attempts > config.max_retries && push.due_at <= now;
        let over: Vec<_> = self
            .pushes
            .values()
            .filter(|push| push.status.is_open() && is_over(push))
            .map(|push| push.id.clone())
            .collect();
        for id in over {
            self.end(&id, PushStatus::Expired);
        }
        self.forget_results();
    }

    /// Returns what to do next for an agent. The pushes have been expired at the same time `now`,
    /// so that none gets another attempt after its last.
    fn next(&mut self, agent_id: &str, now: Instant, config: &ConfigPusherConfig) -> Next {
        let Some(push) = self.open_pushes(agent_id).next() else {
            return Next::Nothing;
        };
        if push.due_at > now {
            return Next::Wait(push.due_at);
        }
        push.attempts += 1;
        push.status = PushStatus::Sent;
        // Unless the result of this attempt is known earlier.
        push.due_at = now + config.ack_timeout + config.pause(push.attempts);
        Next::Send(push.update.clone())
    }

    fn end(&mut self, push_id: &str, status: PushStatus) {
        let mut pushes = self.pushes.values_mut();
        let push = pushes.find(|push| push.id == push_id && push.status.is_open());
        let Some(push) = push else { return };
        let was_accepted = status == PushStatus::Acknowledged;
        let was_answered = status != PushStatus::Expired;
        push.end(status);
        if let Some(agent) = self.agents.get_mut(&push.agent_id) {
            let connection = &mut agent.connection;
            connection.successful_pushes += u64::from(was_accepted);
            connection.failed_pushes += u64::from(!was_accepted);
            if was_answered {
                connection.last_seen = clock::now();
            }
        }
        self.forget_results();
    }

    fn forget_results(&mut self) {
        let is_old = |at: Instant| clock::elapsed(at) >= RESULT_LIFETIME;
        self.pushes
            .retain(|_, push| !push.ended_at.is_some_and(is_old));
        let has_ended = |push: &Push| push.ended_at.is_some();
        let count = self.pushes.values().filter(|push| has_ended(push)).count();
        let mut surplus = count.saturating_sub(MAX_RESULTS);
        self.pushes.retain(|_, push| {
            let goes = surplus > 0 && has_ended(push);
            surplus -= usize::from(goes);
            !goes
        });
    }
}

impl Push {
    fn end(&mut self, status: PushStatus) {
        self.status = status;
        self.ended_at = Some(clock::now());
    }

    fn result(&self) -> PushResult {
        PushResult {
            push_id: self.id.clone(),
            agent_id: self.agent_id.clone(),
            status: self.status.clone(),
            attempts: self.attempts,
        }
    }
}
