//! Callers that use sticky sessions: several requests, all of them on one connection.

use crate::callers::{begin, finish, unless_given_up};
use crate::directive::Directive;
use crate::plan::{Action, Caller, End};
use crate::world::World;
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::sleep;
use tollgate::{Metadata, RequestHeaders, RequestHeadersEvent};

/// Makes the requests of a caller, each with an event.
pub async fn run(world: &Arc<World>, caller: &Caller) {
    let agent = &world.plan.agents[caller.agent].name;
    let session = format!("session{}", caller.number);
    if let Err(error) = world.pool.create_sticky_session(&*session, agent) {
        world.note(format_args!("{session} does not begin: {}", error.kind()));
        return world.lost_exchange(caller, &error);
    }
    for (number, event) in caller.events.iter().enumerate() {
        sleep(Duration::from_millis(event.pause_ms)).await;
        let begun = begin(world, caller, number, None, &VecDeque::new());
        let id = format!("{}-{number}", caller.id());
        let request = headers(&id, &Directive::write(&begun.label, event));
        let label = begun.label.clone();
        let pool = &world.pool;
        let calling = async {
            let sent =
                pool.send_request_headers_with_sticky_session(&session, agent, &id, &request);
            let (answer, is_sticky) = sent.await?;
            if is_sticky {
                world.ledger().answered_in_session(&label);
            } else if must_last(world, caller) {
                let text = format!("{label} left {session}");
                let violation = ("sticky_session_keeps_its_connection", text);
                world.ledger().violations.push(violation);
            }
            Ok(answer)
        };
        let end = unless_given_up(event, calling).await;
        finish(world, begun, end);
        pool.clear_correlation_affinity(&id);
    }
    if let End::Hold { ms } = caller.end {
        sleep(Duration::from_millis(ms)).await;
    }
    // Otherwise the session expires.
    if caller.end != End::Drop || world.plan.is_calm {
        world.pool.clear_sticky_session(&session);
    }
}

/// Returns whether nothing ends the connection of a session.
fn must_last(world: &World, caller: &Caller) -> bool {
    let moves = |one: &Action| matches!(one, Action::Add { agent, .. } if *agent == caller.agent);
    world.plan.is_calm && !world.plan.steps.iter().any(|step| moves(&step.action))
}

fn headers(id: &str, uri: &str) -> RequestHeadersEvent {
    let headers: [(&str, &str); 0] = [];
    let event = RequestHeaders {
        metadata: Metadata {
            correlation_id: id,
            ..Metadata::default()
        },
        method: "GET",
        uri,
        headers: &headers[..],
    };
    event.to_event()
}
