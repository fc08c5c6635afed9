//! Answers to the client instead of the upstream's response.

use bytes::Bytes;
use http::{Method, Response, StatusCode};
use pingora::http::ResponseHeader;
use pingora::proxy::Session;
use std::pin::pin;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

/// Number of bytes of a body that are read and dropped before its request is answered, to keep the
/// connection open.
const MAX_ARRIVED: usize = 64 << 10;

/// Number of bytes of a body that are read and dropped after its request was answered.
const MAX_DRAINED: usize = 64 << 20;

/// Time limit for reading and dropping a body after its request was answered.
const DRAIN_TIME: Duration = Duration::from_secs(10);

/// Answers the client. Over HTTP/1 the connection is closed afterwards unless the whole request has
/// arrived.
pub(crate) async fn respond(session: &mut Session, answer: Response<Bytes>) -> pingora::Result<()> {
    if !has_arrived(session) {
        session.set_keepalive(None);
    }
    let (parts, body) = answer.into_parts();
    let mut head = ResponseHeader::build(parts.status, Some(parts.headers.len()))?;
    for (name, value) in &parts.headers {
        head.append_header(name.clone(), value.clone())?;
    }
    let has_body = !body.is_empty() && session.req_header().method != Method::HEAD;
    session
        .write_response_header(Box::new(head), !has_body)
        .await?;
    if has_body {
        session.write_response_body(Some(body), true).await?;
    } else if session.as_http2().is_some() {
        // Pingora does not end the stream with the head, but resets it.
        session.write_response_body(None, true).await?;
    }
    Ok(())
}

/// Ends the connection of a client that may still be sending its request: no more is sent, and what
/// arrives is read and dropped within bounds. Otherwise the system would reset the connection, and
/// the client might never read its answer.
///
/// Does nothing for a request that has arrived, and over HTTP/2, where a stream of its own ends.
pub(crate) async fn drain(session: &mut Session) {
    if session.as_http1().is_none() || session.is_body_done() {
        return;
    }
    session.as_downstream_mut().shutdown().await;
    let reading = async {
        let mut drained = 0;
        while drained < MAX_DRAINED {
            match session.read_request_body().await {
                Ok(Some(data)) => drained += data.len(),
                Ok(None) | Err(_) => return,
            }
        }
    };
    // Whichever limit is reached first, the connection is closed.
    let _ = tokio::time::timeout(DRAIN_TIME, reading).await;
}

/// Returns the last head that the client got, unless it was only an interim one.
pub(crate) fn final_response(session: &Session) -> Option<&ResponseHeader> {
    let head = session.response_written();
    head.filter(|head| is_final(head.status))
}

/// Returns whether no other head follows one with this status.
pub(crate) fn is_final(status: StatusCode) -> bool {
    !status.is_informational() || status == StatusCode::SWITCHING_PROTOCOLS
}

/// Reads and drops the rest of a small request's body, if it has arrived. Returns whether the body
/// is over.
fn has_arrived(session: &mut Session) -> bool {
    let mut cx = Context::from_waker(Waker::noop());
    let mut dropped = 0;
    while dropped < MAX_ARRIVED && !session.is_body_done() {
        let reading = pin!(session.read_request_body());
        let Poll::Ready(Ok(Some(data))) = reading.poll(&mut cx) else {
            break;
        };
        dropped += data.len();
    }
    session.is_body_done()
}
