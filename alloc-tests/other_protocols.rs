//! Heap budgets of an event that has arrived in another protocol.

#![allow(clippy::unwrap_used, reason = "a failure here fails the test")]

#[macro_use]
mod support;

use std::io;
use std::sync::{Arc, Mutex};
use support::{Budget, Counting, EVENTS, Flavour, HEADERS, Ids, WARM_UP, request};
use tokio::sync::oneshot;
use tollgate::listener::{Incoming, Listener, OtherSession};
use tollgate::{
    AgentCapabilities, AgentHandler, AgentResponse, AgentServer, BodyChunk, Bytes, Decision,
    RequestBodyChunk, RequestHeadersView,
};

/// Hands out one session and then waits forever.
struct OneSession(Mutex<Option<oneshot::Sender<OtherSession>>>);

impl Listener for OneSession {
    async fn accept(&self) -> io::Result<Incoming> {
        let Some(sender) = self.0.lock().unwrap().take() else {
            return std::future::pending().await;
        };
        Ok(Incoming::session(async move |mut session: OtherSession| {
            session.established().await;
            // The test keeps the session until it has ended.
            let _ = sender.send(session);
            std::future::pending::<()>().await;
        }))
    }

    fn endpoint(&self) -> String {
        "one".to_owned()
    }
}

/// Reads the event, and waits once if it is told to.
struct Reader {
    waits: bool,
}

impl AgentHandler for Reader {
    fn capabilities(&self) -> AgentCapabilities {
        AgentCapabilities::new("reader", "Reads events", "1.0.0")
    }

    async fn on_request_headers(&self, event: RequestHeadersView<'_>) -> AgentResponse {
        if self.waits {
            tokio::task::yield_now().await;
        }
        if event.headers.get("x-block").is_some() || event.path() != "/" {
            return AgentResponse::block(403, None);
        }
        AgentResponse::default_allow()
    }
}

async fn session_of(handler: impl AgentHandler) -> OtherSession {
    let (sender, session) = oneshot::channel();
    let listener = OneSession(Mutex::new(Some(sender)));
    let server = AgentServer::builder(handler).listen_on(listener);
    let server = server.bind().await.unwrap();
    tokio::spawn(server.serve_until(std::future::pending::<()>()));
    session.await.unwrap()
}

async fn ask(session: &OtherSession, ids: &mut Ids, headers: usize, events: u64) -> u64 {
    let event = request("/", &HEADERS[..headers]);
    for _ in 0..events {
        let answer = session.ask(ids.next(), &event).await.unwrap();
        assert_eq!(answer.decision, Decision::Allow);
    }
    events
}

async fn ask_chunks(session: &OtherSession, ids: &mut Ids, events: u64) -> u64 {
    let data = Bytes::from_static(&[b'x'; 16 * 1024]);
    for _ in 0..events {
        let id = ids.next();
        let chunk = RequestBodyChunk(BodyChunk::new(id, data.clone(), 0, true));
        let answer = session.ask(id, &chunk).await.unwrap();
        assert_eq!(answer.decision, Decision::Allow);
    }
    events
}

fn hold_heads(flavour: Flavour, handler: impl AgentHandler) {
    let counting = Counting::begin();
    flavour.runtime().block_on(async {
        let session = session_of(handler).await;
        let mut ids = Ids::default();
        for headers in [10, 40] {
            ask(&session, &mut ids, headers, WARM_UP).await;
            let made = counting.during(ask(&session, &mut ids, headers, EVENTS));
            Budget::NONE.check(made.await).unwrap();
        }
    });
}

fn hold(flavour: Flavour, waits: bool) {
    hold_heads(flavour, Reader { waits });
    hold_heads(flavour, Arc::new(Reader { waits }));
}

fn hold_chunks(flavour: Flavour, waits: bool) {
    let counting = Counting::begin();
    flavour.runtime().block_on(async {
        let session = session_of(Reader { waits }).await;
        let mut ids = Ids::default();
        ask_chunks(&session, &mut ids, WARM_UP).await;
        let made = counting.during(ask_chunks(&session, &mut ids, EVENTS));
        Budget::NONE.check(made.await).unwrap();
    });
}

mod heads {
    use super::*;
    on_both_runtimes! { hold: at_once: false; waiting: true; }
}

mod chunks {
    use super::*;
    on_both_runtimes! { hold_chunks: at_once: false; }
}
