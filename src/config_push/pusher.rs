use crate::protocol::{ConfigUpdateRequest, ConfigUpdateType};
use std::collections::BTreeMap;
use std::hash::{BuildHasher, RandomState};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::Notify;

/// How long the result of a push can be seen.
const RESULT_LIFETIME: Duration = Duration::from_secs(60);

/// Most results that can be seen; the oldest give way.
const MAX_RESULTS: usize = 1024;

/// Longest time between two attempts.
const MAX_RETRY_INTERVAL: Duration = Duration::from_secs(30);

/// How updates are pushed.
#[derive(Debug, Clone)]
pub struct ConfigPusherConfig {
    /// Time for the answer to one attempt, 10 s by default.
    pub ack_timeout: Duration,
    /// Attempts after the first, 3 by default.
    pub max_retries: usize,
    /// Time before the second attempt, 2 s by default; before each further one it is twice as long, at most 30 s, less
    /// up to half by chance.
    pub retry_interval: Duration,
    /// Pushes that may be under way to one agent, 100 by default; more are refused.
    pub max_pending_per_agent: usize,
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

/// An agent that updates may be pushed to.
#[derive(Debug, Clone)]
pub struct AgentConnection {
    /// Name of the agent in the pool.
    pub agent_id: String,
    /// How it calls itself.
    pub name: String,
    /// When it was connected to first.
    pub connected_at: Instant,
    /// When it connected or answered a push last.
    pub last_seen: Instant,
    /// Pushes that it took.
    pub successful_pushes: u64,
    /// Pushes that it refused or that expired.
    pub failed_pushes: u64,
    /// Whether it says that it takes pushes.
    pub supports_push: bool,
}

/// What became of a push.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PushStatus {
    /// It waits for earlier ones, or for the agent.
    Pending,
    /// It was sent and is not answered.
    Sent,
    /// The agent took it.
    Acknowledged,
    /// The agent refused it, or went away.
    Failed {
        /// Why.
        reason: String,
    },
    /// Every attempt failed. The agent may or may not have seen it.
    Expired,
}

impl PushStatus {
    fn is_open(&self) -> bool {
        matches!(self, Self::Pending | Self::Sent)
    }
}

/// A push at one moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PushResult {
    /// Which push.
    pub push_id: String,
    /// To which agent.
    pub agent_id: String,
    /// What became of it.
    pub status: PushStatus,
    /// How often it was sent.
    pub attempts: usize,
}

/// Keeps account of updates on their way to agents: in order, retried, and given up in time.
///
/// A pool has one ([`AgentPool::config_pusher`](crate::AgentPool::config_pusher)) and sends what is in it, as the event
/// [`Configure`](crate::Configure) whose `config` is the update and whose `request_id` names the push; an agent may get a
/// push more than once under that id. The updates of one agent are sent one after another. One that is refused is not
/// tried again and does not hold up later ones.
#[derive(Debug)]
pub struct ConfigPusher {
    config: ConfigPusherConfig,
    /// Tells the pushes of several proxies apart.
    origin: u64,
    /// Told when there is something to send.
    wanted: Arc<Notify>,
    ledger: Mutex<Ledger>,
}

#[derive(Debug, Default)]
struct Ledger {
    agents: BTreeMap<String, Recipient>,
    /// In the order in which they were made.
    pushes: BTreeMap<u64, Push>,
    made: u64,
}

#[derive(Debug)]
struct Recipient {
    connection: AgentConnection,
    /// Whether somebody sends what is in the ledger for this agent.
    is_served: bool,
}

#[derive(Debug)]
struct Push {
    id: String,
    agent_id: String,
    update: ConfigUpdateRequest,
    due_at: Instant,
    attempts: usize,
    status: PushStatus,
    settled_at: Option<Instant>,
}

impl ConfigPusher {
    /// A pusher with the default configuration.
    pub fn new() -> Self {
        Self::with_config(ConfigPusherConfig::default())
    }

    /// A pusher that nobody sends for: see [`ConfigPusher::get_retryable`].
    pub fn with_config(config: ConfigPusherConfig) -> Self {
        Self::serving(config, Arc::default())
    }

    pub(crate) fn serving(config: ConfigPusherConfig, wanted: Arc<Notify>) -> Self {
        Self {
            config,
            origin: RandomState::new().hash_one(()),
            wanted,
            ledger: Mutex::default(),
        }
    }

    /// Adds an agent, or notes that it has connected again. The pool does so with every connection.
    pub fn register_agent(
        &self,
        agent_id: impl Into<String>,
        name: impl Into<String>,
        supports_push: bool,
    ) {
        let (agent_id, name, now) = (agent_id.into(), name.into(), Instant::now());
        let mut ledger = self.ledger();
        if let Some(known) = ledger.agents.get_mut(&agent_id) {
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
            is_served: false,
        };
        ledger.agents.insert(agent_id, recipient);
    }

    /// Forgets an agent; its open pushes fail.
    pub fn unregister_agent(&self, agent_id: &str) {
        let mut ledger = self.ledger();
        ledger.agents.remove(agent_id);
        for push in ledger.open_pushes(agent_id) {
            push.settle(PushStatus::Failed {
                reason: "The agent was removed".to_owned(),
            });
        }
    }

    /// Notes a sign of life.
    pub fn touch_agent(&self, agent_id: &str) {
        if let Some(agent) = self.ledger().agents.get_mut(agent_id) {
            agent.connection.last_seen = Instant::now();
        }
    }

    /// All agents, in alphabetical order.
    pub fn connected_agents(&self) -> Vec<AgentConnection> {
        let ledger = self.ledger();
        let agents = ledger.agents.values();
        agents.map(|agent| agent.connection.clone()).collect()
    }

    /// The agents that take pushes.
    pub fn pushable_agents(&self) -> Vec<AgentConnection> {
        let mut agents = self.connected_agents();
        agents.retain(|agent| agent.supports_push);
        agents
    }

    /// Has an update sent to an agent and returns the id of the push. `None` if the agent is not known, does not take
    /// pushes (`config_push` among its features), or has too many under way.
    pub fn push_to_agent(&self, agent_id: &str, update_type: ConfigUpdateType) -> Option<String> {
        let mut ledger = self.ledger();
        let agent = ledger.agents.get(agent_id)?;
        let has_room = ledger.open_count(agent_id) < self.config.max_pending_per_agent;
        if !agent.connection.supports_push || !has_room {
            return None;
        }
        ledger.made += 1;
        let number = ledger.made;
        let id = format!("push-{:016x}-{number}", self.origin);
        let push = Push {
            id: id.clone(),
            agent_id: agent_id.to_owned(),
            update: ConfigUpdateRequest::new(id.clone(), update_type),
            due_at: Instant::now(),
            attempts: 0,
            status: PushStatus::Pending,
            settled_at: None,
        };
        ledger.pushes.insert(number, push);
        drop(ledger);
        self.wanted.notify_one();
        Some(id)
    }

    /// The same for every agent that takes pushes.
    pub fn push_to_all(&self, update_type: ConfigUpdateType) -> Vec<String> {
        self.pushable_agents()
            .iter()
            .filter_map(|agent| self.push_to_agent(&agent.agent_id, update_type.clone()))
            .collect()
    }

    /// Notes an agent's answer. One that comes after the end of the push changes nothing.
    pub fn acknowledge(&self, push_id: &str, accepted: bool, error: Option<String>) {
        let status = if accepted {
            PushStatus::Acknowledged
        } else {
            PushStatus::Failed {
                reason: error.unwrap_or_else(|| "Unknown error".to_owned()),
            }
        };
        self.ledger().settle(push_id, status);
    }

    /// What is to be sent now, to which agents, where no pool does it: each agent's oldest open push, if it was not sent
    /// yet or not answered in time. Counts as an attempt.
    pub fn get_retryable(&self) -> Vec<(String, ConfigUpdateRequest)> {
        self.expire_old();
        let mut ledger = self.ledger();
        let agents: Vec<_> = ledger.agents.keys().cloned().collect();
        let mut next = |agent_id: String| match ledger.next(&agent_id, &self.config) {
            Next::Send(update) => Some((agent_id, update)),
            _ => None,
        };
        agents.into_iter().filter_map(&mut next).collect()
    }

    /// Gives up pushes whose last attempt was in vain, and forgets results that were there to be seen for a minute.
    pub fn expire_old(&self) {
        let mut ledger = self.ledger();
        let now = Instant::now();
        let is_over = |push: &Push| push.attempts > self.config.max_retries && push.due_at <= now;
        let over: Vec<_> = ledger
            .pushes
            .values()
            .filter(|push| push.status.is_open() && is_over(push))
            .map(|push| push.id.clone())
            .collect();
        for id in over {
            ledger.settle(&id, PushStatus::Expired);
        }
        ledger.forget_results();
    }

    /// The open pushes, and those that came to their end within the last minute, oldest first.
    pub fn get_results(&self) -> Vec<PushResult> {
        let ledger = self.ledger();
        ledger.pushes.values().map(Push::result).collect()
    }

    /// Pushes that have not come to their end.
    pub fn pending_count(&self) -> usize {
        let ledger = self.ledger();
        let statuses = ledger.pushes.values().map(|push| &push.status);
        statuses.filter(|status| status.is_open()).count()
    }

    /// Time for one attempt.
    pub(crate) fn ack_timeout(&self) -> Duration {
        self.config.ack_timeout
    }

    /// Notes that an attempt came to nothing; another may follow.
    pub(crate) fn attempt_failed(&self, push_id: &str) {
        let mut ledger = self.ledger();
        let push = ledger.pushes.values_mut().find(|push| push.id == push_id);
        if let Some(push) = push.filter(|push| push.status.is_open()) {
            push.due_at = Instant::now() + self.config.pause(push.attempts);
        }
    }

    /// The right to send, for every agent that has open pushes which nobody sends.
    pub(crate) fn deliveries(self: &Arc<Self>) -> Vec<Delivery> {
        let mut ledger = self.ledger();
        let Ledger { agents, pushes, .. } = &mut *ledger;
        let mut deliveries = Vec::new();
        for push in pushes.values().filter(|push| push.status.is_open()) {
            let agent = agents.get_mut(&push.agent_id);
            if let Some(agent) = agent.filter(|agent| !agent.is_served) {
                agent.is_served = true;
                deliveries.push(Delivery {
                    pusher: Arc::clone(self),
                    agent_id: push.agent_id.clone(),
                });
            }
        }
        deliveries
    }

    fn ledger(&self) -> MutexGuard<'_, Ledger> {
        self.ledger.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Default for ConfigPusher {
    fn default() -> Self {
        Self::new()
    }
}

/// What is to be done for an agent.
#[derive(Debug)]
pub(crate) enum Next {
    /// Send this now.
    Send(ConfigUpdateRequest),
    /// Nothing before that.
    Wait(Instant),
    Nothing,
}

/// The right to send an agent's pushes, until this is dropped.
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
        self.pusher.expire_old();
        self.pusher
            .ledger()
            .next(&self.agent_id, &self.pusher.config)
    }
}

impl Drop for Delivery {
    fn drop(&mut self) {
        let mut ledger = self.pusher.ledger();
        if let Some(agent) = ledger.agents.get_mut(&self.agent_id) {
            agent.is_served = false;
        }
        // One that was made just now may have found the agent served.
        if ledger.open_count(&self.agent_id) > 0 {
            self.pusher.wanted.notify_one();
        }
    }
}

impl ConfigPusherConfig {
    fn pause(&self, attempts: usize) -> Duration {
        let doublings = u32::try_from(attempts.saturating_sub(1)).unwrap_or(u32::MAX);
        self.retry_interval
            .saturating_mul(2_u32.saturating_pow(doublings))
            .min(MAX_RETRY_INTERVAL)
            .mul_f64(0.5 + fastrand::f64() / 2.0)
    }
}

impl Ledger {
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

    fn next(&mut self, agent_id: &str, config: &ConfigPusherConfig) -> Next {
        let now = Instant::now();
        let Some(push) = self.open_pushes(agent_id).next() else {
            return Next::Nothing;
        };
        if push.due_at > now {
            return Next::Wait(push.due_at);
        }
        push.attempts += 1;
        push.status = PushStatus::Sent;
        // Unless it is known sooner what came of it.
        push.due_at = now + config.ack_timeout + config.pause(push.attempts);
        Next::Send(push.update.clone())
    }

    fn settle(&mut self, push_id: &str, status: PushStatus) {
        let mut pushes = self.pushes.values_mut();
        let push = pushes.find(|push| push.id == push_id && push.status.is_open());
        let Some(push) = push else { return };
        let was_taken = status == PushStatus::Acknowledged;
        let was_answered = status != PushStatus::Expired;
        push.settle(status);
        if let Some(agent) = self.agents.get_mut(&push.agent_id) {
            let connection = &mut agent.connection;
            connection.successful_pushes += u64::from(was_taken);
            connection.failed_pushes += u64::from(!was_taken);
            if was_answered {
                connection.last_seen = Instant::now();
            }
        }
        self.forget_results();
    }

    fn forget_results(&mut self) {
        let is_old = |at: Instant| at.elapsed() >= RESULT_LIFETIME;
        self.pushes
            .retain(|_, push| !push.settled_at.is_some_and(is_old));
        let settled = |push: &Push| push.settled_at.is_some();
        let count = self.pushes.values().filter(|push| settled(push)).count();
        let mut surplus = count.saturating_sub(MAX_RESULTS);
        self.pushes.retain(|_, push| {
            let goes = surplus > 0 && settled(push);
            surplus -= usize::from(goes);
            !goes
        });
    }
}

impl Push {
    fn settle(&mut self, status: PushStatus) {
        self.status = status;
        self.settled_at = Some(Instant::now());
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
