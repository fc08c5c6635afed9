//! The proxy: Pingora's phases, and what each of them asks of the transaction.
//!
//! | phase | asked about |
//! |---|---|
//! | `request_filter` | the head of the request, and its body if the head must wait for it |
//! | `upstream_request_filter` | nothing; the head gets what agents changed since |
//! | `request_body_filter` | each chunk of the request's body |
//! | `response_filter` | the head of the response |
//! | `response_body_filter` | each chunk of the response's body |
//! | `logging` | nothing; agents are notified that the request is complete or was cancelled |

use crate::agents::Agents;
use crate::answer::{drain, final_response, is_final, respond};
use crate::departure::{client_gone, while_connected};
use crate::messages::Head;
use crate::request::Request;
use crate::websocket::Inspector;
use crate::{body_first, header_swap};
use async_trait::async_trait;
use bytes::Bytes;
use http::header::{CONTENT_LENGTH, TRANSFER_ENCODING};
use http::{Method, Response, StatusCode, Version};
use pingora::http::{RequestHeader, ResponseHeader};
use pingora::prelude::HttpPeer;
use pingora::proxy::{FailToProxy, ProxyHttp, Session};
use pingora::{Error, ErrorSource, ErrorType};
use std::future::poll_fn;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;
use tokio::runtime::{Handle, RuntimeFlavor};
use tollgate::CancelReason;
use tollgate::proxy::{ClientInfo, Message, Rejection, is_websocket, plain_answer};
use tollgate_example_settings::{Settings, WebSockets};

/// Status in logs and events of a request whose client disconnected.
const CLIENT_CLOSED_REQUEST: u16 = 499;

/// The proxy, as an application of Pingora. Clones share the agents.
#[derive(Clone)]
pub struct Proxy {
    agents: Arc<Agents>,
    upstream: SocketAddr,
    /// Set unless WebSocket connections are passed or refused without a look at their frames.
    inspector: Option<Inspector>,
}

/// Reason why the judging of a head ends early.
enum Stop {
    Rejected(Rejection),
    /// Usually a client that went away.
    Pingora(Box<Error>),
}

impl Proxy {
    /// Creates a proxy that asks these agents.
    ///
    /// # Errors
    ///
    /// Never fails for a valid upstream.
    pub fn new(settings: &Settings, agents: Agents) -> anyhow::Result<Self> {
        let chain = agents.chain();
        let inspects = settings.websockets == WebSockets::Inspect && !chain.is_empty();
        let inspector = inspects.then(|| Inspector::new(chain.clone(), settings.upstream));
        Ok(Self {
            inspector: inspector.transpose()?,
            agents: Arc::new(agents),
            upstream: settings.upstream,
        })
    }

    async fn judge_request(&self, session: &mut Session, ctx: &mut Request) -> pingora::Result<()> {
        if let Some(inspector) = &self.inspector
            && is_websocket(&Head(session.req_header_mut()))
        {
            ctx.inspected = Some(inspector.peer(client_address(session)));
            return Ok(());
        }
        let judged = self.judge_head(session, ctx).await;
        judged.map_err(|stop| match stop {
            Stop::Rejected(rejection) => ctx.reject(rejection),
            Stop::Pingora(error) => error,
        })?;
        if session.is_body_empty() || ctx.transaction.body_mode(Message::Request).is_none() {
            return Ok(());
        }
        let timeout = ctx.transaction.body_timeout(Message::Request);
        session.as_downstream_mut().set_read_timeout(timeout);
        body_first::judge_ahead(session, ctx, &self.agents).await
    }

    /// Asks about the head of the request. Returns early if the client disconnects.
    async fn judge_head(&self, session: &mut Session, ctx: &mut Request) -> Result<(), Stop> {
        let client = client_address(session);
        let has_body = !session.is_body_empty();
        let mut lent = header_swap::lend(session).map_err(Stop::Pingora)?;
        let judged = {
            let mut head = Head(&mut *lent);
            let client = ClientInfo::new(client);
            let mut judging = pin!(ctx.transaction.judge_request(&mut head, client, has_body));
            let mut disconnected = pin!(client_gone(session, &self.agents));
            // Polled by hand: tokio's `select!` also does the bookkeeping of cooperative
            // scheduling, which costs about 190 instructions.
            poll_fn(|cx| match judging.as_mut().poll(cx) {
                Poll::Pending => disconnected
                    .as_mut()
                    .poll(cx)
                    .map(|error| Err(Stop::Pingora(error))),
                Poll::Ready(judged) => Poll::Ready(judged.map_err(Stop::Rejected)),
            })
            .await
        };
        header_swap::give_back(session, lent);
        judged
    }

    /// Answers the client instead of the upstream.
    async fn answer(
        &self,
        session: &mut Session,
        ctx: &mut Request,
        answer: Response<Bytes>,
        error: Option<&Error>,
    ) -> pingora::Result<()> {
        let status = answer.status().as_u16();
        let responded = respond(session, answer).await;
        responded.map_err(|error| error.into_down())?;
        if ctx.inspected.is_none() {
            // Agents need not wait until the client has stopped sending.
            ctx.transaction.complete(status, error.map(reason));
        }
        drain(session).await;
        Ok(())
    }
}

fn client_address(session: &Session) -> Option<SocketAddr> {
    let address = session.client_addr()?;
    address.as_inet().copied()
}

#[async_trait]
impl ProxyHttp for Proxy {
    type CTX = Request;

    fn new_ctx(&self) -> Request {
        Request::new(self.agents.chain().begin())
    }

    async fn request_filter(
        &self,
        session: &mut Session,
        ctx: &mut Request,
    ) -> pingora::Result<bool> {
        let Err(error) = self.judge_request(session, ctx).await else {
            return Ok(false);
        };
        let answer = ctx.answer.take().ok_or(error)?;
        self.answer(session, ctx, answer, None).await?;
        Ok(true)
    }

    async fn upstream_peer(
        &self,
        _session: &mut Session,
        ctx: &mut Request,
    ) -> pingora::Result<Box<HttpPeer>> {
        let upstream = || HttpPeer::new(self.upstream, false, String::new());
        Ok(Box::new(ctx.inspected.clone().unwrap_or_else(upstream)))
    }

    async fn upstream_request_filter(
        &self,
        session: &mut Session,
        upstream_request: &mut RequestHeader,
        ctx: &mut Request,
    ) -> pingora::Result<()> {
        if ctx.inspected.is_some() {
            return Ok(());
        }
        body_first::begin_attempt(session, ctx);
        // Without a length Pingora uses chunked encoding.
        let settled = ctx
            .transaction
            .settle_request_head(&mut Head(upstream_request));
        settled.map_err(|rejection| ctx.reject(rejection))
    }

    async fn request_body_filter(
        &self,
        session: &mut Session,
        body: &mut Option<Bytes>,
        end_of_stream: bool,
        ctx: &mut Request,
    ) -> pingora::Result<()> {
        if ctx.inspected.is_some() {
            return Ok(());
        }
        if ctx.is_upgraded {
            let bytes = body.as_ref().map_or(0, Bytes::len);
            ctx.transaction.count_bytes(Message::Request, bytes);
            return Ok(());
        }
        let data = body.take().unwrap_or_default();
        let judging = body_first::judge_chunk(ctx, data, end_of_stream);
        let judged = while_connected(session, &self.agents, judging).await?;
        let passed = judged.map_err(|rejection| ctx.reject(rejection))?;
        // In the middle of a body Pingora takes `None` for its end, so a chunk that is held back is
        // `Some`. At the end it writes an empty chunk, which ends a chunked body, before it ends
        // the body itself.
        *body = Some(passed).filter(|passed| !(end_of_stream && passed.is_empty()));
        Ok(())
    }

    async fn response_filter(
        &self,
        session: &mut Session,
        response: &mut ResponseHeader,
        ctx: &mut Request,
    ) -> pingora::Result<()> {
        if ctx.inspected.is_some() || !is_final(response.status) {
            return Ok(());
        }
        let (status, has_body) = (response.status, has_body(session, response));
        ctx.is_upgraded = status == StatusCode::SWITCHING_PROTOCOLS;
        let mut head = Head(&mut *response);
        let judged = ctx.transaction.judge_response(status, &mut head, has_body);
        judged.await.map_err(|rejection| ctx.reject(rejection))?;
        let is_watched = ctx.transaction.body_mode(Message::Response).is_some();
        if is_watched && has_body && !may_block() {
            tracing::error!(
                "agents subscribe to response bodies, which requires work_stealing = true"
            );
            return Err(ctx.end_with(plain_answer(StatusCode::INTERNAL_SERVER_ERROR)));
        }
        let settled = ctx.transaction.settle_response_head(&mut head, has_body);
        settled.map_err(|rejection| ctx.reject(rejection))?;
        if has_body {
            frame(session, response)?;
        }
        Ok(())
    }

    /// Asks about a chunk of the response's body. This phase of Pingora is synchronous, so it
    /// blocks the thread; tokio moves the thread's other tasks to another thread meanwhile.
    fn response_body_filter(
        &self,
        _session: &mut Session,
        body: &mut Option<Bytes>,
        end_of_stream: bool,
        ctx: &mut Request,
    ) -> pingora::Result<Option<Duration>> {
        if ctx.inspected.is_some() {
            return Ok(None);
        }
        let is_watched = ctx.transaction.body_mode(Message::Response).is_some();
        if !is_watched || ctx.is_upgraded {
            let bytes = body.as_ref().map_or(0, Bytes::len);
            ctx.transaction.count_bytes(Message::Response, bytes);
            return Ok(None);
        }
        let data = body.take().unwrap_or_default();
        let judging = ctx
            .transaction
            .judge_chunk(Message::Response, data, end_of_stream);
        let judged = tokio::task::block_in_place(|| Handle::current().block_on(judging));
        let passed = judged.map_err(|rejection| ctx.reject(rejection))?.data;
        *body = Some(passed).filter(|passed| !passed.is_empty());
        Ok(None)
    }

    /// Suppresses Pingora's error log for decisions of agents and for what clients do. Failures of
    /// agents are logged where they happen.
    fn suppress_error_log(&self, _session: &Session, _ctx: &Request, error: &Error) -> bool {
        matches!(error.etype(), ErrorType::HTTPStatus(_))
            || *error.esource() == ErrorSource::Downstream
    }

    fn error_while_proxy(
        &self,
        peer: &HttpPeer,
        session: &mut Session,
        error: Box<Error>,
        ctx: &mut Request,
        client_reused: bool,
    ) -> Box<Error> {
        let mut error = error.more_context(format!("Peer: {peer}"));
        let can_repeat =
            client_reused && ctx.can_repeat() && !session.as_ref().retry_buffer_truncated();
        error.retry.decide_reuse(can_repeat);
        error
    }

    async fn fail_to_proxy(
        &self,
        session: &mut Session,
        error: &Error,
        ctx: &mut Request,
    ) -> FailToProxy {
        let has_begun = final_response(session).is_some();
        let answer = ctx.answer.take().or_else(|| response_to(error));
        if is_body_timeout(error) {
            ctx.count_body_timeout();
        }
        let mut error_code = 0;
        if let Some(answer) = answer.filter(|_| !has_begun) {
            error_code = answer.status().as_u16();
            // Pingora closes the connection.
            session.set_keepalive(None);
            if let Err(error) = self.answer(session, ctx, answer, Some(error)).await {
                tracing::debug!(%error, "cannot send the error response to the client");
            }
        }
        FailToProxy {
            error_code,
            can_reuse_downstream: false,
        }
    }

    async fn logging(&self, session: &mut Session, error: Option<&Error>, ctx: &mut Request) {
        if ctx.inspected.is_some() {
            return;
        }
        let is_disconnect = error.is_some_and(is_client_disconnect);
        if is_disconnect {
            ctx.transaction.cancel(CancelReason::ClientDisconnect);
        }
        let status = match final_response(session) {
            _ if is_disconnect => CLIENT_CLOSED_REQUEST,
            Some(head) => head.status.as_u16(),
            None => 0,
        };
        ctx.transaction.complete(status, error.map(reason));
    }
}

/// Returns whether this runtime allows blocking one of its threads.
fn may_block() -> bool {
    Handle::current().runtime_flavor() == RuntimeFlavor::MultiThread
}

/// Returns whether a body may follow the head of a response.
fn has_body(session: &Session, response: &ResponseHeader) -> bool {
    let length = response.headers.get(CONTENT_LENGTH);
    session.req_header().method != Method::HEAD
        && !matches!(response.status.as_u16(), 101 | 204 | 304)
        && length.is_none_or(|length| length.as_bytes() != b"0")
}

/// Marks the end of a body whose length is no longer known. Over HTTP/1.0 that is the end of the
/// connection.
fn frame(session: &Session, response: &mut ResponseHeader) -> pingora::Result<()> {
    if session.req_header().version < Version::HTTP_11 {
        response.remove_header(&TRANSFER_ENCODING);
    } else if !response.headers.contains_key(CONTENT_LENGTH) {
        response.set_version(Version::HTTP_11);
        response.insert_header(TRANSFER_ENCODING, "chunked")?;
    }
    Ok(())
}

/// Returns the reason why a client did not get the upstream's response, for agents.
fn reason(error: &Error) -> String {
    error.etype().as_str().to_owned()
}

fn is_client_disconnect(error: &Error) -> bool {
    let is_lost = matches!(
        error.etype(),
        ErrorType::ReadError
            | ErrorType::WriteError
            | ErrorType::ConnectionClosed
            | ErrorType::H2Error
    );
    is_lost && *error.esource() == ErrorSource::Downstream
}

fn is_body_timeout(error: &Error) -> bool {
    *error.etype() == ErrorType::ReadTimedout && *error.esource() == ErrorSource::Downstream
}

/// Returns the response to an error that no agent caused, or `None` if the client is disconnected.
fn response_to(error: &Error) -> Option<Response<Bytes>> {
    let status = match (error.etype(), error.esource()) {
        (ErrorType::HTTPStatus(status), _) => StatusCode::from_u16(*status).ok()?,
        (_, ErrorSource::Upstream) => StatusCode::BAD_GATEWAY,
        _ if is_body_timeout(error) => StatusCode::REQUEST_TIMEOUT,
        (_, ErrorSource::Downstream) if is_client_disconnect(error) => return None,
        (_, ErrorSource::Downstream) => StatusCode::BAD_REQUEST,
        (_, ErrorSource::Internal | ErrorSource::Unset) => StatusCode::INTERNAL_SERVER_ERROR,
    };
    Some(plain_answer(status))
}
