//! The way of one request through agents and the service.

use crate::answer::BoxError;
use crate::bounds::{ByteBody, Wrapped};
use crate::disconnect::Disconnect;
use crate::exchange::{Handle, Shared};
use crate::layer::Settings;
use crate::pipe::{Broken, Pipe, discard};
use crate::request_body::{Counter, RequestBody, cancel};
use crate::response_body::{End, Inner, PendingEnd, ResponseBody};
use crate::source::Source;
use crate::upgrade;
use bytes::Bytes;
use http::header::{CONTENT_LENGTH, EXPECT};
use http::request::Parts;
use http::{HeaderMap, Method, Request, Response, StatusCode};
use http_body::Body;
use http_body_util::Either;
use std::sync::Arc;
use tollgate::proxy::{Message, Rejection, Transaction, is_websocket, plain_answer};

/// Response for the client, or the error of the service.
pub(crate) type Outcome<R, E> = Result<Response<ResponseBody<R>>, E>;

/// Asks agents about a request, has the service handle it, and asks about the response.
pub(crate) async fn handle<S, B, R>(
    settings: Arc<Settings>,
    inner: S,
    request: Request<B>,
) -> Outcome<R, S::Error>
where
    S: Wrapped<B, R>,
    B: ByteBody,
    R: ByteBody,
{
    let is_head = request.method() == Method::HEAD;
    let disconnect = request.extensions().get::<Disconnect>().cloned();
    let judging = judge(settings, inner, request);
    let mut response = match disconnect {
        None => judging.await?,
        Some(disconnect) => tokio::select! {
            biased;
            response = judging => response?,
            // Dropping what is judged tells the agents.
            () = disconnect.notified() => return Ok(client_has_gone()),
        },
    };
    if is_head {
        // A server may send what it is given, though no body follows the head (RFC 9110, 9.3.2).
        response.body_mut().leave_out_answer();
    }
    Ok(response)
}

/// Returns a response that nobody gets.
fn client_has_gone<R>() -> Response<ResponseBody<R>> {
    plain_answer(StatusCode::BAD_REQUEST).map(ResponseBody::whole)
}

async fn judge<S, B, R>(
    settings: Arc<Settings>,
    inner: S,
    request: Request<B>,
) -> Outcome<R, S::Error>
where
    S: Wrapped<B, R>,
    B: ByteBody,
    R: ByteBody,
{
    let (mut head, body) = request.into_parts();
    let mut transaction = settings.chain.begin();
    let client = settings.client(&head.extensions);
    let has_body = !body.is_end_stream();
    let judged = transaction.judge_request(&mut head, client, has_body).await;
    if let Err(rejection) = judged {
        if has_body && !head.headers.contains_key(EXPECT) {
            discard(Some(Box::pin(body)));
        }
        return Ok(reject(Handle::Owned(transaction), rejection));
    }
    if is_websocket(&head) && transaction.watches_frames() {
        return upgrade::inspect(transaction, inner, head).await;
    }
    if has_body && transaction.body_mode(Message::Request).is_some() {
        return with_judged_body(transaction, inner, head, body).await;
    }
    with_plain_body(transaction, inner, head, body).await
}

/// Calls the service with a request whose body no agent sees.
async fn with_plain_body<S, B, R>(
    mut transaction: Transaction,
    mut inner: S,
    mut head: Parts,
    body: B,
) -> Outcome<R, S::Error>
where
    S: Wrapped<B, R>,
    B: ByteBody,
    R: ByteBody,
{
    if let Err(rejection) = transaction.settle_request_head(&mut head) {
        return Ok(reject(Handle::Owned(transaction), rejection));
    }
    let received = (!body.is_end_stream()).then(Counter::default);
    let body = RequestBody::plain(body, received.clone());
    let is_head = head.method == Method::HEAD;
    let called = inner.call(Request::from_parts(head, body)).await;
    let handle = Handle::Owned(transaction);
    match called {
        Ok(response) => {
            let response = response.map(Either::Left);
            Ok(respond(handle, response, is_head, received).await)
        }
        Err(error) => {
            service_failed(handle);
            Err(error)
        }
    }
}

/// Calls the service with a request whose body agents see.
async fn with_judged_body<S, B, R>(
    transaction: Transaction,
    mut inner: S,
    mut head: Parts,
    body: B,
) -> Outcome<R, S::Error>
where
    S: Wrapped<B, R>,
    B: ByteBody,
    R: ByteBody,
{
    let source = Source::new(body, transaction.preferred_chunk(Message::Request));
    let timeout = transaction.body_timeout(Message::Request);
    let shared = Shared::new(transaction);
    let handle = Handle::Shared(shared.clone());
    let reader = Handle::Shared(shared.clone());
    let mut pipe = Pipe::new(Message::Request, reader, source, timeout);
    let first = match judge_head_with_body(&mut pipe, &mut head).await {
        Ok(first) => first,
        Err(Broken::Rejected(rejection)) => {
            let (_, rest) = pipe.into_rest();
            discard(rest);
            return Ok(reject(handle, rejection));
        }
        Err(Broken::Sender(_)) => {
            cancel(handle);
            let response = plain_answer(StatusCode::BAD_REQUEST);
            return Ok(response.map(ResponseBody::whole));
        }
    };
    let body = if pipe.is_done() {
        RequestBody::whole(first, pipe.take_trailers())
    } else {
        RequestBody::judged(first, pipe, shared.clone())
    };
    let is_head = head.method == Method::HEAD;
    let called = tokio::select! {
        biased;
        response = shared.rejected() => return Ok(refuse(handle, response)),
        called = inner.call(Request::from_parts(head, body)) => called,
    };
    // A service may answer by itself when the body of its request breaks off.
    if let Some(response) = shared.take_rejected() {
        return Ok(refuse(handle, response));
    }
    match called {
        Ok(response) => {
            let response = response.map(Either::Left);
            Ok(respond(handle, response, is_head, None).await)
        }
        Err(error) => {
            service_failed(handle);
            Err(error)
        }
    }
}

/// Judges as much of the body as must be judged before the head goes on, and returns the bytes of
/// the body that may go on with it.
async fn judge_head_with_body<B>(
    pipe: &mut Pipe<B>,
    head: &mut Parts,
) -> Result<Option<Bytes>, Broken>
where
    B: ByteBody,
{
    let mut first = None;
    if pipe.handle.lock().await.holds_head(Message::Request) {
        first = pipe.next().await?;
    }
    let mut transaction = pipe.handle.lock().await;
    let settled = transaction.settle_request_head(head);
    settled.map_err(Broken::Rejected)?;
    Ok(first)
}

/// Asks agents about a response, and returns what the client gets.
pub(crate) async fn respond<R>(
    mut handle: Handle,
    response: Response<Inner<R>>,
    is_head: bool,
    received: Option<Counter>,
) -> Response<ResponseBody<R>>
where
    R: ByteBody,
{
    let (mut head, body) = response.into_parts();
    let status = head.status;
    let has_body = !is_head && may_have_body(status) && !body.is_end_stream();
    let mut transaction = handle.lock().await;
    let judged = transaction
        .judge_response(status, &mut head, has_body)
        .await;
    let is_watched = has_body && transaction.body_mode(Message::Response).is_some();
    let judged = match judged {
        Ok(()) if !is_watched => transaction.settle_response_head(&mut head, false),
        judged => judged,
    };
    let preferred = transaction.preferred_chunk(Message::Response);
    let holds_head = transaction.holds_head(Message::Response);
    drop(transaction);
    if let Err(rejection) = judged {
        return reject(handle, rejection);
    }
    if !is_watched {
        let length = content_length(&head.headers);
        let end = End {
            handle,
            status,
            received,
            sent: 0,
            length,
        };
        return Response::from_parts(head, ResponseBody::plain(body, end));
    }
    let end = PendingEnd { status, received };
    let source = Source::new(body, preferred);
    let mut pipe = Pipe::new(Message::Response, handle, source, None);
    let first = match if holds_head {
        pipe.next().await
    } else {
        Ok(None)
    } {
        Ok(first) => first,
        Err(Broken::Rejected(rejection)) => {
            return reject(pipe.into_rest().0, rejection);
        }
        Err(Broken::Sender(error)) => return upstream_broke_off(pipe.into_rest().0, &error),
    };
    let settled = pipe
        .handle
        .lock()
        .await
        .settle_response_head(&mut head, true);
    if let Err(rejection) = settled {
        return reject(pipe.into_rest().0, rejection);
    }
    Response::from_parts(head, ResponseBody::judged(first, pipe, end))
}

fn may_have_body(status: StatusCode) -> bool {
    !status.is_informational()
        && status != StatusCode::NO_CONTENT
        && status != StatusCode::NOT_MODIFIED
}

fn content_length(headers: &HeaderMap) -> Option<u64> {
    headers.get(CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}

/// Answers the client in the service's place.
pub(crate) fn refuse<R>(handle: Handle, response: Response<Bytes>) -> Response<ResponseBody<R>> {
    let status = response.status().as_u16();
    handle.end(move |transaction| transaction.complete(status, None));
    response.map(ResponseBody::whole)
}

/// Answers the client because the response broke off before anything of it went on.
fn upstream_broke_off<R>(handle: Handle, error: &BoxError) -> Response<ResponseBody<R>> {
    let (status, error) = (StatusCode::BAD_GATEWAY, error.to_string());
    handle.end(move |transaction| transaction.complete(status.as_u16(), Some(error)));
    plain_answer(status).map(ResponseBody::whole)
}

/// Tells the agents that the service failed. Which status the client gets is not known here.
pub(crate) fn service_failed(handle: Handle) {
    let status = StatusCode::BAD_GATEWAY.as_u16();
    let error = Some("the service failed".to_owned());
    handle.end(move |transaction| transaction.complete(status, error));
}

/// Answers the client because of a rejection, whose reason only the log is told.
pub(crate) fn reject<R>(handle: Handle, rejection: Rejection) -> Response<ResponseBody<R>> {
    refuse(handle, rejection.into_response())
}
