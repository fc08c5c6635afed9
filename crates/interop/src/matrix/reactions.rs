//! What proxies make of what agents say unasked.

use super::cell::Outcome;
use super::column::{Column, Maker};
use super::notice::{Message, Notice, config_updates, health, metrics};
use super::raw_agent::RawAgent;
use super::session::Session;
use super::{LIMIT, pool_of};
use crate::events;
use crate::meeting::AGENT;
use crate::peer_client::{Via, run_client};
use crate::recorder::FirstWords;
use crate::script::script;
use std::sync::Arc;
use tokio::sync::broadcast::Receiver;
use tokio::time::timeout;
use tollgate::{AgentControl, AgentNotice, AgentPool, AgentProtocolError, AgentResponse};

/// The exchange that is paused alone, and one that is not.
const PAUSED: &str = "paused";
const OTHER: &str = "other";

/// What becomes of a notice, in the order of the table: each state of health differs from the one before in
/// what can be seen of it.
pub(super) struct Reactions {
    outcomes: Vec<(Notice, Outcome)>,
    ping: Outcome,
}

impl Reactions {
    pub(super) async fn see(column: &Column, session: &Session, notices: &[Notice]) -> Self {
        let mut reactions = Self {
            outcomes: Vec::new(),
            ping: Outcome::CannotSend,
        };
        if column.proxy == Maker::Tollgate {
            reactions.see_pool(column, notices).await;
            return reactions;
        }
        for &notice in notices {
            let outcome = match column.agent {
                Maker::Published(_) => Outcome::CannotSend,
                Maker::Tollgate => of_published_proxy(column, session, notice).await,
            };
            reactions.outcomes.push((notice, outcome));
        }
        reactions
    }

    pub(super) fn to(&self, notice: Notice) -> Outcome {
        let found = self.outcomes.iter().find(|(seen, _)| *seen == notice);
        found.map_or(Outcome::Lost, |(_, outcome)| outcome.clone())
    }

    pub(super) fn to_ping(&self) -> Outcome {
        self.ping.clone()
    }

    async fn see_pool(&mut self, column: &Column, notices: &[Notice]) {
        let mut raw = RawAgent::listen(column).await;
        let told_by_hand = pool_of(column, raw.socket()).await;
        self.ping = match raw.ping().await {
            Some(true) => Outcome::WorksByHand,
            Some(false) => Outcome::Lost,
            None => Outcome::CannotSend,
        };
        let server = column.wire.serve(|_| {}).await;
        let told_by_ours = pool_of(column, server.socket()).await;
        for &notice in notices {
            let outcome = match column.agent {
                Maker::Tollgate => {
                    let tell = |message: Message| message.tell(server.control());
                    of_pool(&told_by_ours, tell, notice).await
                }
                Maker::Published(_) => {
                    let tell = |message: Message| raw.tell(&message);
                    of_pool(&told_by_hand, tell, notice).await.by_hand()
                }
            };
            self.outcomes.push((notice, outcome));
        }
        server.stop().await;
    }
}

impl Outcome {
    fn by_hand(self) -> Self {
        match self {
            Self::Works => Self::WorksByHand,
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

async fn of_pool(pool: &AgentPool, tell: impl Fn(Message), notice: Notice) -> Outcome {
    let mut notices = pool.notices();
    if let Some(status) = health(notice) {
        let healthy = match notice {
            Notice::Healthy | Notice::Degraded => 1,
            _ => 0,
        };
        tell(Message::Health(status));
        return Outcome::works_if(becomes(pool, Sight::HealthyConnections(healthy)).await);
    }
    match notice {
        Notice::Metrics => {
            tell(Message::Metrics(metrics()));
            comes(&mut notices, |agent_id| AgentNotice::Metrics {
                agent_id,
                report: metrics(),
            })
            .await
        }
        Notice::ConfigUpdates => {
            for request in config_updates() {
                tell(Message::ConfigUpdate(request.clone()));
                let outcome = comes(&mut notices, |agent_id| AgentNotice::ConfigUpdate {
                    agent_id,
                    request,
                });
                let outcome = outcome.await;
                if outcome != Outcome::Works {
                    return outcome;
                }
            }
            Outcome::Works
        }
        _ => of_pool_to_flow(pool, tell, notice).await,
    }
}

/// Whether the next notice is the one that was given. Health is told more than once and may still be coming.
async fn comes(
    notices: &mut Receiver<AgentNotice>,
    expected: impl FnOnce(Arc<str>) -> AgentNotice,
) -> Outcome {
    let next = async {
        loop {
            match notices.recv().await {
                Ok(AgentNotice::Health { .. }) => {}
                other => return other,
            }
        }
    };
    match timeout(LIMIT, next).await {
        Ok(Ok(notice)) if notice == expected(AGENT.into()) => Outcome::Works,
        Ok(Ok(_)) => Outcome::Misread,
        Ok(Err(_)) | Err(_) => Outcome::Lost,
    }
}

async fn of_pool_to_flow(pool: &AgentPool, tell: impl Fn(Message), notice: Notice) -> Outcome {
    let [stop, go_on] = Message::stop_and_go_on(notice, PAUSED);
    tell(stop);
    if !becomes(pool, Sight::Refused).await {
        return Outcome::Ignored;
    }
    let is_for_one = matches!(notice, Notice::PauseOne | Notice::NoRoomForOne);
    if is_paused(&ask(pool, OTHER).await) == is_for_one {
        return Outcome::Misread;
    }
    tell(go_on);
    Outcome::works_if(becomes(pool, Sight::Answered).await)
}

async fn ask(pool: &AgentPool, id: &str) -> Result<AgentResponse, AgentProtocolError> {
    let event = events::bare_request_headers(id, "/allow");
    pool.send_request_headers(AGENT, id, &event).await
}

const fn is_paused(answer: &Result<AgentResponse, AgentProtocolError>) -> bool {
    matches!(answer, Err(AgentProtocolError::FlowControlPaused { .. }))
}

/// What can be seen of a pool from outside.
#[derive(Clone, Copy)]
enum Sight {
    /// So many connections count as healthy.
    HealthyConnections(usize),
    /// Calls of the exchange [`PAUSED`] are not made.
    Refused,
    /// They are answered.
    Answered,
}

impl Sight {
    async fn is_there(self, pool: &AgentPool) -> bool {
        match self {
            Self::HealthyConnections(count) => {
                let stats = pool.agent_stats(AGENT).await;
                stats.expect("the agent is known").healthy_connections == count
            }
            Self::Refused => is_paused(&ask(pool, PAUSED).await),
            Self::Answered => ask(pool, PAUSED).await.is_ok(),
        }
    }
}

/// Whether it can be seen in time.
async fn becomes(pool: &AgentPool, sight: Sight) -> bool {
    let waited = timeout(LIMIT, async {
        while !sight.is_there(pool).await {
            tokio::task::yield_now().await;
        }
    });
    waited.await.is_ok()
}

async fn of_published_proxy(column: &Column, session: &Session, notice: Notice) -> Outcome {
    let first_words: FirstWords = match notice {
        Notice::Pause => |control| stop(control, Notice::Pause),
        Notice::PauseOne => |control| stop(control, Notice::PauseOne),
        Notice::NoRoom => |control| stop(control, Notice::NoRoom),
        Notice::NoRoomForOne => |control| stop(control, Notice::NoRoomForOne),
        _ => return session.notice(notice),
    };
    let peer = column.proxy.peer(column.wire).expect("the proxy is a peer");
    let server = column.wire.serve(first_words).await;
    // Of the published crate only the pool looks at flow control.
    let lines = run_client(&peer, Via::Pool, server.socket()).await;
    server.stop().await;
    let last = lines
        .iter()
        .find(|line| line["call"] == "request_headers:/last");
    Outcome::works_if(last.is_some_and(|line| line["ok"] == false))
}

/// Stops the last exchange of the script, or all.
fn stop(control: &AgentControl, notice: Notice) {
    let last = script().pop().expect("the script has steps");
    let [stop, _] = Message::stop_and_go_on(notice, &last.id);
    stop.tell(control);
}
