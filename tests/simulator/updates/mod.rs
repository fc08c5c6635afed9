//! Config updates in both directions, and log lines of agents: what was sent, what the other side
//! saw, and what must hold for it.

mod generate;
mod steps;

pub use steps::handler;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;
use tollgate::sim::{AgentView, clock};
use tollgate::{
    AgentPool,
    config_push::{PushResult, PushStatus},
    control::{AgentNotice, ConfigUpdateResponse},
};

use crate::plan::{AgentKind, Plan};

/// Attempts of a push.
pub const MAX_ATTEMPTS: usize = 3;

/// Time of one attempt of a push.
pub const ACK_TIMEOUT: Duration = Duration::from_millis(150);

/// Wait before the second attempt of a push.
pub const RETRY_INTERVAL: Duration = Duration::from_millis(20);

/// Longest time of a push, once it is the oldest of its agent: three attempts with waits of 20, 40
/// and 80 ms after them, and what maintenance takes to begin: it does once the first agent is
/// connected.
const PUSH_TIME: Duration = Duration::from_millis(3 * 150 + 20 + 40 + 80 + 560);

/// Reason of a rejected request that the handler did not see.
const TOO_MANY: &str = "Too many requests are waiting";

/// A violated rule and how it is violated.
type Violation = (&'static str, String);

/// Records of one simulation.
#[derive(Debug, Default)]
pub struct Updates {
    requests: BTreeMap<String, Request>,
    pushes: BTreeMap<String, Push>,
    /// Log lines by their text.
    lines: BTreeMap<String, Line>,
    /// Reloads that the handler accepted.
    reloads: Vec<Reload>,
    /// Agents that were removed, so that their counts and pushes are forgotten.
    removed: BTreeSet<usize>,
    /// Requests that are repeated until they are answered.
    pub open_requests: usize,
    /// Set if notices were lost, because there were too many between two checks.
    has_lost_notices: bool,
    violations: Vec<Violation>,
}

/// A request of an agent.
#[derive(Debug)]
struct Request {
    agent: usize,
    is_accepted: bool,
    /// The agent sends it once. Otherwise it repeats the request until there is an answer.
    is_single: bool,
    /// Lists only; the handler is not told the ids of other requests.
    handled: usize,
    /// Answers that the agent got.
    answers: Vec<(bool, Option<String>)>,
    notices: usize,
}

/// A push of the pool.
#[derive(Debug)]
struct Push {
    agent: usize,
    is_accepted: bool,
    /// Time until which it has ended.
    deadline: Duration,
    /// Number of times that the agent got it.
    seen: usize,
    has_decided: bool,
    end: Option<PushStatus>,
}

#[derive(Debug)]
struct Line {
    agent: usize,
    is_certain: bool,
    seen: usize,
}

#[derive(Debug)]
struct Reload {
    agent: usize,
    has_settings: bool,
}

impl Updates {
    pub fn take_violation(&mut self) -> Option<Violation> {
        self.violations.pop()
    }

    fn violated(&mut self, rule: &'static str, text: String) {
        self.violations.push((rule, text));
    }

    pub fn removed(&mut self, agents: impl IntoIterator<Item = usize>) {
        self.removed.extend(agents);
    }

    /// Notes that the handler decides on a list. Returns the decision.
    pub fn handled(&mut self, list_id: &str) -> bool {
        let request = self.requests.get_mut(list_id).expect("a request");
        request.handled += 1;
        let (is_accepted, handled) = (request.is_accepted, request.handled);
        if handled > 1 {
            let text = format!("{list_id} was handled {handled} times");
            self.violated("a_request_is_handled_once", text);
        }
        is_accepted
    }

    /// Notes that the handler accepts a reload.
    pub fn reloads(&mut self, agent: usize, has_settings: bool) {
        let reload = Reload {
            agent,
            has_settings,
        };
        self.reloads.push(reload);
    }

    /// Notes that an agent got an answer to a request.
    pub fn answered(&mut self, agent: usize, response: &ConfigUpdateResponse) {
        let id = &response.request_id;
        let Some(request) = self.requests.get_mut(id).filter(|one| one.agent == agent) else {
            let text = format!("agent {agent} got an answer to {id}");
            return self.violated("an_answer_reaches_its_own_request", text);
        };
        let answer = (response.accepted, response.error.clone());
        let is_known = request.answers.iter().all(|before| *before == answer);
        request.answers.push(answer);
        let is_decided = response.error.as_deref() != Some(TOO_MANY);
        let is_right = !is_decided || response.accepted == request.is_accepted;
        if !is_known || !is_right {
            let text = format!("{id}: {request:?}");
            return self.violated("a_request_is_answered_as_the_handler_decided", text);
        }
        if request.is_single && request.answers.len() > 1 {
            let text = format!("{id}: {request:?}");
            self.violated("a_request_is_answered_once", text);
        }
    }

    /// Notes that an agent got a push. Returns the agent's decision.
    pub fn got_push(&mut self, agent: usize, push_id: &str) -> bool {
        let Some(push) = self
            .pushes
            .get_mut(push_id)
            .filter(|one| one.agent == agent)
        else {
            let text = format!("agent {agent} got {push_id}");
            self.violated("a_push_reaches_its_agent", text);
            return false;
        };
        push.seen += 1;
        push.is_accepted
    }

    /// Notes that an agent is about to answer a push.
    pub fn decides_on_push(&mut self, push_id: &str) {
        if let Some(push) = self.pushes.get_mut(push_id) {
            push.has_decided = true;
        }
    }

    /// Returns when a push to an agent ends at the latest that is made now.
    fn push_deadline(&self, agent: usize) -> Duration {
        let earlier = self.pushes.values().filter(|one| one.agent == agent);
        let begin = earlier.map(|one| one.deadline).max().unwrap_or_default();
        begin.max(clock::since_start()) + PUSH_TIME
    }

    /// Notes what agents told the pool.
    pub fn notice(&mut self, plan: &Plan, notice: &AgentNotice) {
        match notice {
            AgentNotice::Log { agent_id, message } => self.got_line(plan, agent_id, message),
            AgentNotice::ConfigUpdate { agent_id, request } => {
                let id = &request.request_id;
                let Some(known) = self.requests.get_mut(id) else {
                    return self.violated("no_notice_is_invented", id.clone());
                };
                known.notices += 1;
                let is_own = *plan.agents[known.agent].name == **agent_id;
                // Without the extension an agent cannot tell which connections have one proxy.
                let is_again = known.is_single && known.notices > 1 && plan.pool.uses_extension;
                if !is_own || is_again {
                    let text = format!("{agent_id} {id}: {known:?}");
                    self.violated("a_notice_is_delivered_at_most_once", text);
                }
            }
            _ => {}
        }
    }

    pub fn lost_notices(&mut self) {
        self.has_lost_notices = true;
    }

    fn got_line(&mut self, plan: &Plan, agent_id: &str, message: &tollgate::control::LogMessage) {
        let text = &message.message;
        let Some(line) = self.lines.get_mut(text) else {
            return self.violated("no_notice_is_invented", text.clone());
        };
        line.seen += 1;
        let is_own = *plan.agents[line.agent].name == *agent_id;
        if !is_own || line.seen > 1 || !plan.pool.uses_extension {
            let text = format!("{agent_id} {text}: {line:?}");
            self.violated("a_notice_is_delivered_at_most_once", text);
        }
    }

    /// Checks the state of all pushes.
    pub fn check_pushes(&mut self, plan: &Plan, pool: &AgentPool) {
        let results = pool.config_pusher().get_results();
        for agent in &plan.agents {
            let is_sent =
                |one: &&PushResult| one.agent_id == agent.name && one.status == PushStatus::Sent;
            if results.iter().filter(is_sent).count() > 1 {
                let text = format!("{results:?}");
                self.violated("pushes_are_sent_one_after_another", text);
            }
        }
        for result in &results {
            let Some(push) = self.pushes.get_mut(&result.push_id) else {
                continue;
            };
            let was_removed = self.removed.contains(&push.agent);
            if let Some(rule) = push.update(result, plan, was_removed) {
                let text = format!("{result:?}: {push:?}");
                self.violated(rule, text);
            }
        }
    }

    /// Checks what must hold once nothing happens any more.
    pub fn check_at_rest(&mut self, plan: &Plan, pool: &AgentPool, agents: &[AgentView]) {
        let pending = pool.config_pusher().pending_count();
        if pending > 0 {
            let text = format!("{:?}", pool.config_pusher().get_results());
            self.violated("every_push_ends", text);
        }
        let is_certain = |line: &Line| line.is_certain && line.seen == 0;
        let lost = self.lines.iter().find(|(_, line)| is_certain(line));
        if let Some((line, _)) = lost.filter(|_| !self.has_lost_notices) {
            let line = line.clone();
            self.violated("calm_changes_lose_nothing", line);
        }
        let is_due = |one: &Reload| one.has_settings && !self.removed.contains(&one.agent);
        let reloads = pool.config_update_handler().pending_count();
        if reloads > 0 && self.reloads.iter().all(is_due) {
            let text = format!("{reloads} reloads are pending");
            self.violated("a_reload_is_done", text);
        }
        for agent in 0..plan.agents.len() {
            // Entries of other agents are forgotten after their grace period.
            let is_kept = plan.agents[agent].kind == AgentKind::Server;
            if is_kept && !self.removed.contains(&agent) {
                self.check_counts(plan, pool, agents, agent);
            }
        }
    }

    /// Checks the counts of an agent that was never removed.
    fn check_counts(&mut self, plan: &Plan, pool: &AgentPool, agents: &[AgentView], agent: usize) {
        let name = &plan.agents[agent].name;
        let ends = self.pushes.values().filter(|one| one.agent == agent);
        let ends: Vec<_> = ends.filter_map(|one| one.end.as_ref()).collect();
        let accepted = ends
            .iter()
            .filter(|end| ***end == PushStatus::Acknowledged)
            .count() as u64;
        let known = pool.config_pusher().connected_agents();
        if let Some(known) = known.iter().find(|one| one.agent_id == *name) {
            let counted = (known.successful_pushes, known.failed_pushes);
            let seen = (accepted, ends.len() as u64 - accepted);
            if counted != seen {
                let text = format!("{name}: {counted:?} counted, {seen:?} seen");
                self.violated("a_push_is_counted_once", text);
            }
        }
        let own = self.requests.values().filter(|one| one.agent == agent);
        let answers: usize = own.map(|one| one.answers.len().max(one.handled)).sum();
        let view = agents.iter().find(|one| one.id == *name);
        if let Some(view) = view.filter(|view| view.config_updates < answers as u64) {
            let text = format!("{name}: {answers} seen, {} counted", view.config_updates);
            self.violated("a_request_is_counted", text);
        }
    }
}

impl Push {
    /// Notes the state of the push. Returns the rule that it violates.
    fn update(
        &mut self,
        result: &PushResult,
        plan: &Plan,
        was_removed: bool,
    ) -> Option<&'static str> {
        if let Some(end) = &self.end {
            return (*end != result.status).then_some("a_push_ends_once");
        }
        let is_bounded = result.attempts <= MAX_ATTEMPTS && self.seen <= result.attempts;
        if !is_bounded && !plan.is_calm {
            return Some("a_push_is_attempted_as_often_as_it_may");
        }
        // A maintenance task that ends with its runtime is started again by a call.
        let is_late = clock::since_start() > self.deadline && plan.runtimes == 1;
        let is_kept = !was_removed && plan.agents[self.agent].kind == AgentKind::Server;
        let is_right = match &result.status {
            PushStatus::Pending | PushStatus::Sent => {
                return (is_late && !plan.is_calm).then_some("a_push_ends_in_time");
            }
            PushStatus::Acknowledged => self.has_decided && self.is_accepted,
            PushStatus::Failed { reason } if reason == "The agent was removed" => !is_kept,
            PushStatus::Failed { .. } => self.has_decided && !self.is_accepted,
            PushStatus::Expired => !plan.is_calm,
            _ => false,
        };
        self.end = Some(result.status.clone());
        (!is_right).then_some("a_push_ends_as_the_agent_decided")
    }
}
