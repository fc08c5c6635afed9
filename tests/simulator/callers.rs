//! Callers: the requests of the proxy.

use crate::agents::MARK;
use crate::directive::Directive;
use crate::ledger::{CallEnd, FinishedCall};
use crate::plan::{Caller, End, Kind, PlannedEvent, Way};
use crate::sticky;
use crate::world::{DEGRADED_FACTOR, World};
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::{sleep, timeout};
use tollgate::sim::clock;
use tollgate::{
    AgentResponse, CallError, CancelReason, Decision, Exchange, HeaderOp, Metadata, RequestHeaders,
    ResponseHeaders,
    events::{RequestBodyChunkEvent, RequestCompleteEvent, ResponseBodyChunkEvent},
};

type Outcome = Result<AgentResponse, CallError>;

/// A call that has begun.
pub struct Begun {
    pub label: String,
    started: Duration,
    limit: Duration,
}

/// Sends the event of a kind by a method that takes any event.
macro_rules! with_event {
    ($planned:expr, $id:expr, $text:expr, |$event:ident| $send:expr) => {{
        let (id, text) = ($id, $text);
        match $planned.kind {
            Kind::RequestHeaders => {
                let headers: [(&str, &str); 1] = [("host", "example.com")];
                let $event = &RequestHeaders {
                    metadata: Metadata {
                        correlation_id: id,
                        ..Metadata::default()
                    },
                    method: "GET",
                    uri: &text,
                    headers: &headers[..],
                };
                $send
            }
            Kind::RequestBody { is_last } => {
                let $event = &RequestBodyChunkEvent::new(id, text, 0, is_last);
                $send
            }
            Kind::ResponseHeaders => {
                let headers: [(&str, &str); 1] = [(MARK, &text)];
                let $event = &ResponseHeaders {
                    correlation_id: id,
                    status: 200,
                    headers: &headers[..],
                };
                $send
            }
            Kind::ResponseBody { is_last } => {
                let $event = &ResponseBodyChunkEvent::new(id, text, 0, is_last);
                $send
            }
            Kind::Complete => {
                let $event = &RequestCompleteEvent {
                    correlation_id: id.to_owned(),
                    status: 200,
                    duration_ms: 1,
                    request_body_size: 0,
                    response_body_size: 0,
                    upstream_attempts: 1,
                    error: Some(text),
                };
                $send
            }
        }
    }};
}

/// Makes all calls of a caller.
pub async fn run(world: Arc<World>, caller: Caller) {
    match caller.way {
        Way::Exchange | Way::Pushed { .. } => run_exchange(&world, &caller).await,
        Way::ById => run_by_id(&world, &caller).await,
        Way::Sticky => sticky::run(&world, &caller).await,
    }
    world.note(format_args!("caller {} is done", caller.number));
}

impl Caller {
    /// Returns the correlation id.
    pub fn id(&self) -> String {
        match self.shared_id {
            Some(shared) => format!("shared{shared}"),
            None => format!("request{}", self.number),
        }
    }

    /// Returns the name of an event. The events of an exchange object begin with an `x`, those in
    /// a sticky session with an `s`.
    fn label(&self, event: usize) -> String {
        let letter = match self.way {
            Way::ById => 'i',
            Way::Sticky => 's',
            Way::Exchange | Way::Pushed { .. } => 'x',
        };
        format!("{letter}{}.{event}", self.number)
    }
}

async fn run_exchange(world: &Arc<World>, caller: &Caller) {
    let id = caller.id();
    let begun = world.agent(caller.agent);
    let mut exchange = match begun.and_then(|agent| agent.exchange(&id)) {
        Ok(exchange) => exchange,
        Err(error) => {
            world.note(format_args!(
                "caller {} gets no exchange: {}",
                caller.number,
                error.kind()
            ));
            return world.lost_exchange(caller, &error);
        }
    };
    let mut pushed = VecDeque::new();
    for (number, event) in caller.events.iter().enumerate() {
        sleep(Duration::from_millis(event.pause_ms)).await;
        let is_body = matches!(
            event.kind,
            Kind::RequestBody { .. } | Kind::ResponseBody { .. }
        );
        let is_pushed = is_body && matches!(caller.way, Way::Pushed { .. });
        let fixed = event.timeout_ms.filter(|_| !is_pushed);
        let begun = begin(world, caller, number, fixed, &pushed);
        if let Way::Pushed { window } = caller.way
            && is_body
        {
            push(world, caller, event, &mut exchange, begun, &mut pushed).await;
            while pushed.len() >= window {
                take_answer(world, &mut exchange, &mut pushed).await;
            }
        } else {
            send(world, caller, event, &mut exchange, begun).await;
        }
    }
    while caller.end != End::Drop && !pushed.is_empty() {
        take_answer(world, &mut exchange, &mut pushed).await;
    }
    if let End::Hold { ms } = caller.end {
        sleep(Duration::from_millis(ms)).await;
    }
    for begun in pushed {
        finish(world, begun, CallEnd::GivenUp);
    }
    if caller.end == End::Cancel {
        exchange.cancel(CancelReason::ClientDisconnect);
    }
}

async fn send(
    world: &World,
    caller: &Caller,
    event: &PlannedEvent,
    exchange: &mut Exchange,
    begun: Begun,
) {
    let (id, text) = (caller.id(), Directive::write(&begun.label, event));
    let calling = async {
        with_event!(event, &*id, text, |one| match event.timeout_ms {
            Some(ms) => exchange.send(one).timeout(Duration::from_millis(ms)).await,
            None => exchange.send(one).await,
        })
    };
    let end = unless_given_up(event, calling).await;
    finish(world, begun, end);
}

async fn push(
    world: &World,
    caller: &Caller,
    event: &PlannedEvent,
    exchange: &mut Exchange,
    begun: Begun,
    pushed: &mut VecDeque<Begun>,
) {
    let (id, text) = (caller.id(), Directive::write(&begun.label, event));
    let outcome = with_event!(event, &*id, text, |one| exchange.push(one).await);
    match outcome {
        Ok(()) => pushed.push_back(begun),
        Err(error) => finish(world, begun, CallEnd::Failed(error.kind())),
    }
}

async fn take_answer(world: &World, exchange: &mut Exchange, pushed: &mut VecDeque<Begun>) {
    let mut begun = pushed.pop_front().expect("a pushed event");
    // The answer may have waited for this caller.
    begun.limit = begun.limit.max(clock::since_start() - begun.started);
    let outcome = exchange.next_answer().await.expect("an answer is to come");
    finish(world, begun, end_of(outcome));
}

async fn run_by_id(world: &Arc<World>, caller: &Caller) {
    let id = caller.id();
    for (number, event) in caller.events.iter().enumerate() {
        sleep(Duration::from_millis(event.pause_ms)).await;
        let begun = begin(world, caller, number, event.timeout_ms, &VecDeque::new());
        let text = Directive::write(&begun.label, event);
        let calling = async {
            let agent = world.agent(caller.agent)?;
            with_event!(event, &*id, text, |one| match event.timeout_ms {
                Some(ms) =>
                    agent
                        .send(&id, one)
                        .timeout(Duration::from_millis(ms))
                        .await,
                None => agent.send(&id, one).await,
            })
        };
        let end = unless_given_up(event, calling).await;
        finish(world, begun, end);
    }
    match caller.end {
        End::Hold { ms } => sleep(Duration::from_millis(ms)).await,
        End::Cancel => {
            if let Ok(agent) = world.agent(caller.agent) {
                // Fails if the agent was removed meanwhile.
                let _ = agent.cancel(&id, CancelReason::ClientDisconnect).await;
            }
        }
        End::Complete | End::Drop => {}
    }
    // Otherwise the pin expires.
    if caller.end != End::Drop || world.plan.is_calm {
        world.pool.unpin(&id);
    }
}

pub fn begin(
    world: &World,
    caller: &Caller,
    number: usize,
    fixed_ms: Option<u64>,
    pushed: &VecDeque<Begun>,
) -> Begun {
    let event = &caller.events[number];
    let label = caller.label(number);
    world.note(format_args!(
        "caller {} asks {} about {:?} as {label}",
        caller.number, world.plan.agents[caller.agent].name, event.kind
    ));
    world.ledger().begin(&label);
    if world.plan.may_lose_pin(caller) {
        world.ledger().unpin(&label);
    }
    let configured = world.plan.pool.request_timeout.mul_f32(DEGRADED_FACTOR);
    let own = fixed_ms.map_or(configured, Duration::from_millis);
    let started = clock::since_start();
    // Without stream ids, the events that were pushed before are waited for.
    let before = pushed
        .iter()
        .map(|before| (before.started + before.limit).saturating_sub(started));
    Begun {
        label,
        started,
        limit: before.fold(Duration::ZERO, Duration::max) + own,
    }
}

pub async fn unless_given_up(
    event: &PlannedEvent,
    calling: impl Future<Output = Outcome>,
) -> CallEnd {
    let Some(ms) = event.give_up_ms else {
        return end_of(calling.await);
    };
    match timeout(Duration::from_millis(ms), calling).await {
        Ok(outcome) => end_of(outcome),
        Err(_) => CallEnd::GivenUp,
    }
}

fn end_of(outcome: Outcome) -> CallEnd {
    match outcome {
        Err(error) => CallEnd::Failed(error.kind()),
        Ok(answer) => {
            let mark = answer.request_headers.iter().find_map(|op| match op {
                HeaderOp::Set { name, value } if name == MARK => Some(value.clone()),
                _ => None,
            });
            let decision = match answer.decision {
                Decision::Allow => "allow",
                Decision::Block { .. } => "block",
                _ => "other",
            };
            CallEnd::Answered { mark, decision }
        }
    }
}

pub fn finish(world: &World, begun: Begun, end: CallEnd) {
    world.note(format_args!("{} ends: {end:?}", begun.label));
    world.ledger().finish(FinishedCall {
        label: begun.label,
        started: begun.started,
        ended: clock::since_start(),
        limit: begun.limit,
        end,
    });
}
