//! Callers that hold an exchange for a session, whose requests all go over its connection.

use crate::callers::{begin, finish, unless_given_up};
use crate::directive::Directive;
use crate::plan::{Caller, End};
use crate::world::World;
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::sleep;
use tollgate::{Metadata, RequestHeaders};

/// Makes the requests of a caller, each with an event.
pub async fn run(world: &Arc<World>, caller: &Caller) {
    let name = format!("session{}", caller.number);
    let agent = world.agent(caller.agent);
    let session = match agent.and_then(|agent| agent.exchange(&name)) {
        Ok(session) => session,
        Err(error) => {
            world.note(format_args!("{name} does not begin: {}", error.kind()));
            return world.lost_exchange(caller, &error);
        }
    };
    // Without a connection, requests go over any.
    let is_bound = session.is_open();
    for (number, event) in caller.events.iter().enumerate() {
        sleep(Duration::from_millis(event.pause_ms)).await;
        let begun = begin(world, caller, number, None, &VecDeque::new());
        let id = format!("{}-{number}", caller.id());
        let label = begun.label.clone();
        let text = Directive::write(&label, event);
        let calling = async {
            let answer = session.send_by_id(&id, &headers(&id, &text)).await?;
            if is_bound {
                world.ledger().answered_in_session(&label);
            }
            Ok(answer)
        };
        let end = unless_given_up(event, calling).await;
        finish(world, begun, end);
        world.pool.unpin(&id);
    }
    if let End::Hold { ms } = caller.end {
        sleep(Duration::from_millis(ms)).await;
    }
}

fn headers<'a>(id: &'a str, uri: &'a str) -> RequestHeaders<'a, &'a [(&'a str, &'a str)]> {
    RequestHeaders {
        metadata: Metadata {
            correlation_id: id,
            ..Metadata::default()
        },
        method: "GET",
        uri,
        headers: &[],
    }
}
