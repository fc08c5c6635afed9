//! Reactions of proxies to unsolicited messages of agents.

use super::cell::Outcome;
use super::column::{Column, Implementation};
use super::notice::{Message, Notice, config_updates, health, metrics};
use super::raw_agent::RawAgent;
use super::session::Session;
use super::{LIMIT, pool_of};
use crate::events;
use crate::peer_client::{Via, run_client};
use crate::pool_with_peer::AGENT;
use crate::recorder::OnFirstEvent;
use crate::script::script;
use std::sync::Arc;
use tokio::time::timeout;
use tollgate::{Agent, AgentControl, AgentResponse, CallError, control::AgentNotice};

/// Step of the script that is answered after all others, unless they have ended the connection.
const LAST_STEP: &str = "request_headers:/last";

/// An exchange that is paused alone, and one that is not paused.
const PAUSED: &str = "paused";
const OTHER: &str = "other";

/// Outcomes of notices in the order of the table. Each state of health has another visible effect
/// than the one before it.
pub(super) struct Reactions {
    outcomes: Vec<(Notice, Outcome)>,
    ping: Outcome,
}

impl Reactions {
    pub(super) async fn observe(column: &Column, session: &Session, notices: &[Notice]) -> Self {
        let mut reactions = Self {
            outcomes: Vec::new(),
            ping: Outcome::CannotSend,
        };
        if column.proxy == Implementation::Tollgate {
            reactions.observe_pool(column, notices).await;
            return reactions;
        }
        for &notice in notices {
            let outcome = match column.agent {
                Implementation::Peer(_) => Outcome::CannotSend,
                Implementation::Tollgate => of_peer(column, session, notice).await,
            };
            reactions.outcomes.push((notice, outcome));
        }
        reactions
    }

    pub(super) fn to_notice(&self, notice: Notice) -> Outcome {
        let found = self
            .outcomes
            .iter()
            .find(|(observed, _)| *observed == notice);
        found.map_or(Outcome::Lost, |(_, outcome)| outcome.clone())
    }

    pub(super) fn to_ping(&self) -> Outcome {
        self.ping.clone()
    }

    async fn observe_pool(&mut self, column: &Column, notices: &[Notice]) {
        let mut raw = RawAgent::listen(column).await;
        let (_pool, raw_agent) = pool_of(column, raw.socket()).await;
        self.ping = match raw.ping().await {
            Some(true) => Outcome::WorksWithRawAgent,
            Some(false) => Outcome::Lost,
            None => Outcome::CannotSend,
        };
        let server = column.wire.serve(column.proxy, |_| {}).await;
        let (_pool, agent) = pool_of(column, server.socket()).await;
        for &notice in notices {
            let outcome = match column.agent {
                Implementation::Tollgate => {
                    let send = |message: Message| message.send(server.control());
                    of_pool(&agent, send, notice).await
                }
                Implementation::Peer(_) => {
                    let send = |message: Message| raw.send(&message);
                    of_pool(&raw_agent, send, notice).await.with_raw_agent()
                }
            };
            self.outcomes.push((notice, outcome));
        }
        server.stop().await;
    }
}

impl Outcome {
    fn with_raw_agent(self) -> Self {
        match self {
            Self::Works => Self::WorksWithRawAgent,
            other => other,
        }
    }

    const fn works_if(works: bool) -> Self {
        match works {
            true => Self::Works,
            false => Self::Ignored,
        }
    }
}

async fn of_pool(agent: &Agent, send: impl Fn(Message), notice: Notice) -> Outcome {
    if let Some(status) = health(notice) {
        let healthy = match notice {
            Notice::Healthy | Notice::Degraded => 1,
            _ => 0,
        };
        send(Message::Health(status));
        return Outcome::works_if(reaches(agent, AgentState::HealthyConnections(healthy)).await);
    }
    match notice {
        Notice::Metrics | Notice::ConfigUpdates => of_pool_to_reports(agent, send, notice).await,
        _ => of_pool_to_flow(agent, send, notice).await,
    }
}

/// Returns whether the pool's next notice is the expected one after each message. Notices of health
/// are skipped, as some may still be in flight.
async fn of_pool_to_reports(agent: &Agent, send: impl Fn(Message), notice: Notice) -> Outcome {
    let mut notices = agent.notices();
    for (message, expected) in reports(notice) {
        send(message);
        let next = async {
            loop {
                match notices.recv().await {
                    Ok(AgentNotice::Health { .. }) => {}
                    other => return other,
                }
            }
        };
        match timeout(LIMIT, next).await {
            Ok(Ok(notice)) if notice == expected => {}
            Ok(Ok(_)) => return Outcome::Misread,
            Ok(Err(_)) | Err(_) => return Outcome::Lost,
        }
    }
    Outcome::Works
}

/// Returns the messages of a notice, each with what the pool makes of it.
fn reports(notice: Notice) -> Vec<(Message, AgentNotice)> {
    let agent_id: Arc<str> = AGENT.into();
    if notice == Notice::Metrics {
        let report = metrics();
        let expected = AgentNotice::Metrics { agent_id, report };
        return vec![(Message::Metrics(metrics()), expected)];
    }
    let updates = config_updates().into_iter();
    let as_reports = updates.map(|request| {
        let message = Message::ConfigUpdate(request.clone());
        let agent_id = Arc::clone(&agent_id);
        (message, AgentNotice::ConfigUpdate { agent_id, request })
    });
    as_reports.collect()
}

async fn of_pool_to_flow(agent: &Agent, send: impl Fn(Message), notice: Notice) -> Outcome {
    let [pause, resume] = Message::pause_and_resume(notice, PAUSED);
    send(pause);
    if !reaches(agent, AgentState::Paused).await {
        return Outcome::Ignored;
    }
    let is_for_one_exchange = matches!(notice, Notice::PauseOne | Notice::NoCapacityForOne);
    if is_paused(&call(agent, OTHER).await) == is_for_one_exchange {
        return Outcome::Misread;
    }
    send(resume);
    Outcome::works_if(reaches(agent, AgentState::Answered).await)
}

async fn call(agent: &Agent, id: &str) -> Result<AgentResponse, CallError> {
    let event = events::bare_request_headers(id, "/allow");
    agent.send(id, &event).await
}

const fn is_paused(answer: &Result<AgentResponse, CallError>) -> bool {
    matches!(answer, Err(CallError::FlowControlPaused { .. }))
}

/// Visible state of an agent in the pool.
#[derive(Clone, Copy)]
enum AgentState {
    /// This number of connections is healthy.
    HealthyConnections(usize),
    /// Calls of the exchange [`PAUSED`] fail.
    Paused,
    /// Calls of the exchange [`PAUSED`] are answered.
    Answered,
}

impl AgentState {
    async fn is_reached(self, agent: &Agent) -> bool {
        match self {
            Self::HealthyConnections(count) => agent.stats().healthy_connections == count,
            Self::Paused => is_paused(&call(agent, PAUSED).await),
            Self::Answered => call(agent, PAUSED).await.is_ok(),
        }
    }
}

/// Waits for a state of the agent. Returns whether it is reached in time.
async fn reaches(agent: &Agent, state: AgentState) -> bool {
    let waited = timeout(LIMIT, async {
        while !state.is_reached(agent).await {
            tokio::task::yield_now().await;
        }
    });
    waited.await.is_ok()
}

async fn of_peer(column: &Column, session: &Session, notice: Notice) -> Outcome {
    let on_first_event: OnFirstEvent = match notice {
        Notice::Pause => |control| pause(control, Notice::Pause),
        Notice::PauseOne => |control| pause(control, Notice::PauseOne),
        Notice::NoCapacity => |control| pause(control, Notice::NoCapacity),
        Notice::NoCapacityForOne => |control| pause(control, Notice::NoCapacityForOne),
        _ => return session.notice(notice),
    };
    let peer = column.proxy.peer(column.wire).expect("the proxy is a peer");
    let server = column.wire.serve(column.proxy, on_first_event).await;
    // In `zentinel-agent-protocol` only the pool evaluates flow control.
    let lines = run_client(&peer, Via::Pool, server.socket()).await;
    server.stop().await;
    let last = lines.iter().find(|line| line["call"] == LAST_STEP);
    Outcome::works_if(last.is_some_and(|line| line["ok"] == false))
}

/// Pauses the exchange of [`LAST_STEP`], or all exchanges.
fn pause(control: &AgentControl, notice: Notice) {
    let steps = script();
    let last = steps.iter().find(|step| step.name == LAST_STEP);
    let last = last.expect("the script has this step");
    let [pause, _] = Message::pause_and_resume(notice, &last.id);
    pause.send(control);
}
