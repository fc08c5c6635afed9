use super::*;
use crate::AgentPool;
use crate::proxy::AgentChain;
use http::{HeaderMap, HeaderValue, Request};

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
