use super::*;
use crate::control::AgentFeatures;
use crate::events::BodyChunk;
use crate::proxy::{AgentChain, BodyError, BodyMode, ChainAgent};
use crate::response::BodyMutation;
use crate::{
    Agent, AgentCapabilities, AgentConfig, AgentHandler, AgentPool, AgentPoolConfig, AgentResponse,
    AgentServer, RequestHeadersView,
};
use bytes::{Bytes, BytesMut};
use http::{HeaderMap, HeaderValue, Request, StatusCode};
use std::path::Path;
use std::sync::Mutex;
use std::time::Duration;
use tokio::sync::mpsc::{self, UnboundedReceiver, UnboundedSender};

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

/// Agent that denies, or never answers, and notes what it hears of the end of requests.
struct Ending {
    behaviour: Behaviour,
    heard: UnboundedSender<Heard>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Behaviour {
    Deny,
    Hang,
}

#[derive(Debug, PartialEq, Eq)]
enum Heard {
    Head,
    Complete,
    Cancelled(CancelReason),
}

impl AgentHandler for Ending {
    fn capabilities(&self) -> AgentCapabilities {
        AgentCapabilities::new("ending", "Ending", "1")
            .with_event(EventType::RequestHeaders)
            .with_event(EventType::RequestComplete)
            .with_features(AgentFeatures {
                cancellation: true,
                ..AgentFeatures::default()
            })
    }

    async fn on_request_headers(&self, _: RequestHeadersView<'_>) -> AgentResponse {
        self.heard.send(Heard::Head).unwrap();
        if self.behaviour == Behaviour::Hang {
            std::future::pending::<()>().await;
        }
        AgentResponse::block(403, None)
    }

    async fn on_request_complete(&self, _: RequestComplete<'_>) -> AgentResponse {
        self.heard.send(Heard::Complete).unwrap();
        AgentResponse::default_allow()
    }

    fn on_cancel(&self, _: &str, reason: CancelReason) {
        self.heard.send(Heard::Cancelled(reason)).unwrap();
    }
}

/// Starts agents behind one chain, which are asked about the heads of these requests in turn.
/// Returns what each hears, the status of the last request's rejection, and the pool.
async fn heard_of<const N: usize>(
    behaviours: [Behaviour; N],
    timeout: Duration,
    requests: Vec<http::request::Parts>,
) -> ([UnboundedReceiver<Heard>; N], u16, AgentPool) {
    let folder = tempfile::tempdir().unwrap();
    let pool = AgentPool::with_config(AgentPoolConfig::default().request_timeout(timeout));
    let mut chain = AgentChain::new(&pool);
    let mut receivers = Vec::new();
    for (at, behaviour) in behaviours.into_iter().enumerate() {
        let (heard, receiver) = mpsc::unbounded_channel();
        let id = format!("agent-{at}");
        let agent = serve(&pool, folder.path(), &id, Ending { behaviour, heard }).await;
        chain = chain.agent(ChainAgent::new(agent));
        receivers.push(receiver);
    }
    let mut status = 0;
    for mut request in requests {
        let mut transaction = chain.begin();
        let judged = transaction.judge_request(&mut request, ClientInfo::default(), false);
        status = judged.await.unwrap_err().status().as_u16();
        transaction.complete(status, None);
    }
    (receivers.try_into().unwrap(), status, pool)
}

async fn next(heard: &mut UnboundedReceiver<Heard>) -> Option<Heard> {
    let waited = tokio::time::timeout(Duration::from_secs(10), heard.recv());
    waited.await.expect("the agent hears nothing")
}

fn get() -> http::request::Parts {
    let request = Request::get("/").header("host", "a.test").body(()).unwrap();
    request.into_parts().0
}

const LONG: Duration = Duration::from_secs(30);

#[tokio::test]
async fn agents_that_owe_an_answer_learn_why_nobody_waits() {
    let both = [Behaviour::Hang, Behaviour::Deny];
    let ([mut hanging, mut denying], status, _pool) = heard_of(both, LONG, vec![get()]).await;
    assert_eq!(status, 403);
    assert_eq!(next(&mut hanging).await, Some(Heard::Head));
    let blocked = Heard::Cancelled(CancelReason::BlockedByAgent);
    assert_eq!(next(&mut hanging).await, Some(blocked));
    assert_eq!(next(&mut denying).await, Some(Heard::Head));
    assert_eq!(next(&mut denying).await, Some(Heard::Complete));

    let short = Duration::from_millis(50);
    let ([mut hanging], status, _pool) = heard_of([Behaviour::Hang], short, vec![get()]).await;
    assert_eq!(status, 504);
    assert_eq!(next(&mut hanging).await, Some(Heard::Head));
    let late = Heard::Cancelled(CancelReason::Timeout);
    assert_eq!(next(&mut hanging).await, Some(late));
}

#[tokio::test]
async fn agents_do_not_hear_of_the_end_of_a_request_that_they_have_not_seen() {
    let requests = vec![offer(), get()];
    let ([mut agent], _, _pool) = heard_of([Behaviour::Deny], LONG, requests).await;
    assert_eq!(next(&mut agent).await, Some(Heard::Head));
    assert_eq!(next(&mut agent).await, Some(Heard::Complete));
}

#[tokio::test]
async fn rejections_are_counted_once_by_their_reason() {
    let pool = AgentPool::new();
    let chain = AgentChain::new(&pool);
    let head = |name: &'static str, value: &'static str| {
        let request = Request::post("/").header("host", "a.test");
        request.header(name, value).body(()).unwrap().into_parts().0
    };
    for (name, value) in [
        ("host", "b.test"),
        ("content-length", "+5"),
        ("connection", "a b"),
    ] {
        let mut transaction = chain.begin();
        let mut head = head(name, value);
        let judged = transaction.judge_request(&mut head, ClientInfo::default(), true);
        judged.await.unwrap_err();
    }
    let mut transaction = chain.begin();
    let mut offer = offer();
    let judged = transaction.judge_request(&mut offer, ClientInfo::default(), false);
    judged.await.unwrap();
    let late = Rejection::RequestBodyTimeout(Duration::from_secs(1));
    transaction.count_rejection(&late);
    let mut response = HeaderMap::new();
    response.insert("upgrade", HeaderValue::from_static("h2c"));
    let status = StatusCode::SWITCHING_PROTOCOLS;
    let switched = transaction.judge_response(status, &mut response, false);
    switched.await.unwrap_err();

    let counts = pool.metrics().snapshot().rejections;
    assert_eq!(counts.invalid_host, 1);
    assert_eq!((counts.ambiguous_framing, counts.invalid_head), (1, 1));
    assert_eq!((counts.request_timed_out, counts.response_framing), (1, 0));
    let text = pool.metrics().to_prometheus("tollgate");
    for line in [
        r#"tollgate_rejections_total{reason="invalid_host"} 1"#,
        r#"tollgate_rejections_total{reason="denied"} 0"#,
    ] {
        assert!(
            text.lines().any(|found| found == line),
            "{line} is missing in {text}"
        );
    }
}
