use super::*;
use crate::events::BodyChunk;
use crate::proxy::{AgentChain, BodyError, BodyMode, ChainAgent};
use crate::response::BodyMutation;
use crate::{
    Agent, AgentCapabilities, AgentConfig, AgentHandler, AgentPool, AgentResponse, AgentServer,
};
use bytes::{Bytes, BytesMut};
use http::{HeaderMap, HeaderValue, Request};
use std::path::Path;
use std::sync::Mutex;

/// Returns the head of a request for a WebSocket connection.
fn offer() -> http::request::Parts {
    let request = Request::get("/")
        .header("host", "a.test")
        .header("connection", "upgrade")
        .header("upgrade", "websocket")
        .header("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ==")
        .header("sec-websocket-version", "13");
    request.body(()).unwrap().into_parts().0
}

/// Returns whether a response that goes on with `protocol` is let through after this request.
async fn switches(mut head: http::request::Parts, protocol: &'static str) -> bool {
    let chain = AgentChain::new(&AgentPool::new());
    let mut transaction = chain.begin();
    let judged = transaction.judge_request(&mut head, ClientInfo::default(), false);
    judged.await.unwrap();
    let mut response = HeaderMap::new();
    response.insert("upgrade", HeaderValue::from_static(protocol));
    let status = StatusCode::SWITCHING_PROTOCOLS;
    match transaction
        .judge_response(status, &mut response, false)
        .await
    {
        Ok(()) => true,
        Err(Rejection::Switched) => false,
        Err(other) => panic!("{other}"),
    }
}

#[tokio::test]
async fn websocket_request_with_a_body_is_refused() {
    let chain = AgentChain::new(&AgentPool::new());
    let judged = chain
        .begin()
        .judge_request(&mut offer(), ClientInfo::default(), true)
        .await;
    let Err(Rejection::BadRequest(reason)) = judged else {
        panic!("the request is not refused");
    };
    assert_eq!(reason, BadRequest::WebSocketBody);
}

#[tokio::test]
async fn upstream_switches_only_to_what_it_was_asked_for() {
    assert!(switches(offer(), "WebSocket").await);
    assert!(!switches(offer(), "h2c").await);
    let mut other = offer();
    other
        .headers
        .insert("upgrade", HeaderValue::from_static("foo"));
    assert!(!switches(other, "foo").await);
}

/// Agent that notes the chunks that it sees.
#[derive(Default)]
struct Reader(Arc<Mutex<Vec<Bytes>>>);

impl AgentHandler for Reader {
    fn capabilities(&self) -> AgentCapabilities {
        AgentCapabilities::new("reader", "Reader", "1").with_event(EventType::RequestBodyChunk)
    }

    async fn on_request_body_chunk(&self, chunk: BodyChunk<'_>) -> AgentResponse {
        self.0.lock().unwrap().push(chunk.data);
        AgentResponse::default_allow()
    }
}

/// Agent that asks for more until the end, and then replaces the first chunk.
struct Rewriter {
    asks_for_more: bool,
}

impl AgentHandler for Rewriter {
    fn capabilities(&self) -> AgentCapabilities {
        AgentCapabilities::new("rewriter", "Rewriter", "1").with_event(EventType::RequestBodyChunk)
    }

    async fn on_request_body_chunk(&self, chunk: BodyChunk<'_>) -> AgentResponse {
        match (chunk.is_last, self.asks_for_more) {
            (true, _) => AgentResponse::default_allow()
                .with_request_body_mutation(BodyMutation::replace(0, "new ")),
            (false, true) => AgentResponse::needs_more_data(),
            (false, false) => AgentResponse::default_allow(),
        }
    }
}

async fn serve<H: AgentHandler>(pool: &AgentPool, folder: &Path, id: &str, agent: H) -> Agent {
    let socket = folder.join(id).display().to_string();
    let server = AgentServer::builder(agent).listen(socket.clone()).bind();
    tokio::spawn(server.await.unwrap().serve());
    let config = AgentConfig::new(id, socket).require_connection();
    pool.add(config).await.unwrap()
}

/// Returns what a second agent sees of a body of two chunks, and what goes on.
async fn seen_after(first: Rewriter) -> Result<(Vec<Bytes>, Bytes), Rejection> {
    let folder = tempfile::tempdir().unwrap();
    let pool = AgentPool::new();
    let reader = Reader::default();
    let seen = Arc::clone(&reader.0);
    let first = ChainAgent::new(serve(&pool, folder.path(), "first", first).await)
        .role(AgentRole::Changes)
        .request_body(BodyMode::Buffer);
    let second = serve(&pool, folder.path(), "second", reader).await;
    let chain = AgentChain::new(&pool)
        .agent(first)
        .agent(ChainAgent::new(second));
    let mut transaction = chain.begin();
    let mut head = Request::post("/")
        .header("host", "a")
        .body(())
        .unwrap()
        .into_parts()
        .0;
    transaction
        .judge_request(&mut head, ClientInfo::default(), true)
        .await?;
    let mut passed = BytesMut::new();
    for (data, is_last) in [("old ", false), ("end", true)] {
        let judged = transaction.judge_chunk(Message::Request, data.into(), is_last);
        passed.extend_from_slice(&judged.await?.data);
    }
    let seen = seen.lock().unwrap().clone();
    Ok((seen, passed.freeze()))
}

#[tokio::test]
async fn later_agents_see_what_earlier_ones_let_go() {
    let (seen, passed) = seen_after(Rewriter {
        asks_for_more: true,
    })
    .await
    .unwrap();
    assert_eq!(seen, ["new ", "end"]);
    assert_eq!(passed, "new end");
}

#[tokio::test]
async fn chunk_that_later_agents_have_seen_is_not_changed_any_more() {
    let refused = seen_after(Rewriter {
        asks_for_more: false,
    })
    .await;
    let Err(Rejection::RequestBody(error)) = refused else {
        panic!("the change was applied");
    };
    assert_eq!(error, BodyError::NoSuchChunk { index: 0 });
}
