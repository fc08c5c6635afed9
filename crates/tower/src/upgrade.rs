//! Requests that go on with the WebSocket protocol, whose frames agents see.
//!
//! The service is asked through a connection in memory, so that the layer stands between the two
//! sides whatever the service is: a handler that takes the connection over, or a proxy.

use crate::bounds::{ByteBody, Wrapped};
use crate::call::{Outcome, refuse, reject, respond, service_failed};
use crate::exchange::{Handle, Shared};
use crate::request_body::RequestBody;
use crate::response_body::ResponseBody;
use crate::websocket::{
    EndCause, Frame, FrameVerdict, Judge, JudgeError, Judges, Limits, Side, decline_extensions,
    relay,
};
use bytes::Bytes;
use http::request::Parts;
use http::{Extensions, Request, Response, StatusCode};
use http_body_util::{BodyExt, Either, Empty};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tollgate::events::WebSocketFrame;
use tollgate::proxy::{Message, Transaction, plain_answer};
use tollgate::response::WebSocketDecision;

/// Buffer of the connection in memory, in bytes.
const BUFFER: usize = 64 * 1024;

/// Time that the two sides have to go on with the WebSocket protocol.
const UPGRADE_TIMEOUT: Duration = Duration::from_secs(10);

/// Calls the service with a request for a WebSocket connection, and judges its frames.
pub(crate) async fn inspect<S, B, R>(
    mut transaction: Transaction,
    inner: S,
    mut head: Parts,
) -> Outcome<R, S::Error>
where
    S: Wrapped<B, R>,
    B: ByteBody,
    R: ByteBody,
{
    decline_extensions(&mut head.headers);
    if let Err(rejection) = transaction.settle_request_head(&mut head) {
        return Ok(reject(Handle::Owned(transaction), rejection));
    }
    let Some(client) = head.extensions.remove::<OnUpgrade>() else {
        let response = plain_answer(StatusCode::NOT_IMPLEMENTED);
        return Ok(refuse(Handle::Owned(transaction), response));
    };
    let mut response = match call(inner, head).await {
        Ok(response) => response,
        Err(error) => {
            let handle = Handle::Owned(transaction);
            let Some(error) = error else {
                return Ok(refuse(handle, plain_answer(StatusCode::BAD_GATEWAY)));
            };
            service_failed(handle);
            return Err(error);
        }
    };
    if response.status() != StatusCode::SWITCHING_PROTOCOLS {
        let response = response.map(Either::Right);
        return Ok(respond(Handle::Owned(transaction), response, false, None).await);
    }
    let upstream = hyper::upgrade::on(&mut response);
    let (mut head, _) = response.into_parts();
    // None was offered. Frames of a client that uses one nevertheless are violations.
    decline_extensions(&mut head.headers);
    let judged = transaction
        .judge_response(head.status, &mut head, false)
        .await;
    let judged = judged.and_then(|()| transaction.settle_response_head(&mut head, false));
    if let Err(rejection) = judged {
        return Ok(reject(Handle::Owned(transaction), rejection));
    }
    tokio::spawn(relay_frames(transaction, client, upstream));
    Ok(Response::from_parts(
        head,
        ResponseBody::whole(Bytes::new()),
    ))
}

/// Calls the service through a connection in memory.
///
/// Fails with the service's error, or with `None` if the service broke the connection.
async fn call<S, B, R>(inner: S, mut head: Parts) -> Result<Response<Incoming>, Option<S::Error>>
where
    S: Wrapped<B, R>,
    B: ByteBody,
    R: ByteBody,
{
    let (near, far) = tokio::io::duplex(BUFFER);
    let extensions = std::mem::take(&mut head.extensions);
    let failure = Arc::new(Mutex::new(None));
    tokio::spawn(serve(far, inner, extensions, Arc::clone(&failure)));
    let called = async {
        let (mut sender, connection) =
            hyper::client::conn::http1::handshake(TokioIo::new(near)).await?;
        tokio::spawn(connection.with_upgrades());
        let request = Request::from_parts(head, Empty::<Bytes>::new());
        sender.send_request(request).await
    };
    called.await.map_err(|_: hyper::Error| {
        let mut failure = failure.lock().unwrap_or_else(PoisonError::into_inner);
        failure.take()
    })
}

/// Serves one request on a connection in memory.
async fn serve<S, B, R>(
    stream: tokio::io::DuplexStream,
    inner: S,
    extensions: Extensions,
    failure: Arc<Mutex<Option<S::Error>>>,
) where
    S: Wrapped<B, R>,
    B: ByteBody,
    R: ByteBody,
{
    let extensions = Mutex::new(Some(extensions));
    let service = service_fn(move |request: Request<Incoming>| {
        let (mut head, _) = request.into_parts();
        let mut given = extensions.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(mut given) = given.take() {
            given.extend(std::mem::take(&mut head.extensions));
            head.extensions = given;
        }
        let request = Request::from_parts(head, RequestBody::whole(None, None));
        let answered = inner.clone().call(request);
        let failure = Arc::clone(&failure);
        async move {
            match answered.await {
                Ok(response) => Ok(response.map(|body| body.map_err(io::Error::other))),
                Err(error) => {
                    let mut failure = failure.lock().unwrap_or_else(PoisonError::into_inner);
                    *failure = Some(error);
                    Err(io::Error::other("the service failed"))
                }
            }
        }
    });
    let served = hyper::server::conn::http1::Builder::new()
        .serve_connection(TokioIo::new(stream), service)
        .with_upgrades();
    // The other side sees how the connection ended.
    let _ = served.await;
}

/// Relays frames between the two sides, as agents decide.
async fn relay_frames(transaction: Transaction, client: OnUpgrade, upstream: OnUpgrade) {
    let upgraded = async { tokio::try_join!(client, upstream) };
    let Ok(Ok((client, upstream))) = tokio::time::timeout(UPGRADE_TIMEOUT, upgraded).await else {
        // Dropping the transaction cancels it.
        return;
    };
    let shared = Shared::new(transaction);
    let judges = Judges {
        client: AgentJudge(shared.clone()),
        upstream: AgentJudge(shared.clone()),
    };
    let (client, upstream) = (TokioIo::new(client), TokioIo::new(upstream));
    let end = relay(client, upstream, judges, &Limits::default()).await;
    let error = match end.cause {
        EndCause::Closed { .. } => None,
        cause => Some(format!("{cause:?}")),
    };
    let mut transaction = shared.lock().await;
    let bytes = |count: u64| usize::try_from(count).unwrap_or(usize::MAX);
    transaction.count_bytes(Message::Request, bytes(end.client.bytes));
    transaction.count_bytes(Message::Response, bytes(end.upstream.bytes));
    transaction.complete(StatusCode::SWITCHING_PROTOCOLS.as_u16(), error);
}

/// Asks agents about the frames of one direction.
struct AgentJudge(Shared);

impl Judge for AgentJudge {
    async fn judge(&mut self, frame: Frame<'_>) -> Result<FrameVerdict, JudgeError> {
        let event = WebSocketFrame {
            correlation_id: "",
            opcode: frame.opcode,
            data: frame.data.clone(),
            client_to_server: frame.from == Side::Client,
            frame_index: frame.index,
            fin: frame.fin,
            route_id: None,
            client_ip: "",
        };
        match self.0.lock().await.judge_frame(event).await {
            Ok(WebSocketDecision::Allow) => Ok(FrameVerdict::Forward),
            Ok(WebSocketDecision::Drop) => Ok(FrameVerdict::Drop),
            Ok(WebSocketDecision::Close { code, reason }) => {
                Ok(FrameVerdict::Close { code, reason })
            }
            Err(rejection) if rejection.status() == StatusCode::SERVICE_UNAVAILABLE => {
                Err(JudgeError::Busy)
            }
            Err(_) => Err(JudgeError::Failed),
        }
    }
}
