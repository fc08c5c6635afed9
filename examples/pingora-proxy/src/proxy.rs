//! The proxy: Pingora's phases, and the events that agents are asked about in each.
//!
//! | phase | asked about |
//! |---|---|
//! | `request_filter` | the head of the request, before an upstream is chosen |
//! | `request_body_filter` | each chunk of the request's body |
//! | `response_filter` | the head of the response |
//! | `response_body_filter` | each chunk of the response's body |
//! | `logging` | nothing; agents are notified that the request is complete or was cancelled |

use crate::agents::{Agents as Pools, RequestIds};
use crate::header_swap;
use crate::messages::{protocol, respond};
use crate::request::{Agents, Request, Stop};
use async_trait::async_trait;
use bytes::Bytes;
use http::header::{CONTENT_LENGTH, HOST, HeaderName, TRANSFER_ENCODING, UPGRADE};
use http::{Method, StatusCode};
use pingora::http::{RequestHeader, ResponseHeader};
use pingora::prelude::HttpPeer;
use pingora::proxy::{FailToProxy, ProxyHttp, Session};
use pingora::{Error, ErrorSource, ErrorType};
use std::future::poll_fn;
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;
use tokio::runtime::{Handle, RuntimeFlavor};
use tollgate::proxy::plain_answer;
use tollgate::{
    CancelReason, EventType, Metadata,
    events::{IpText, Timestamp},
};

/// Status in logs and events of a request whose client disconnected.
const CLIENT_CLOSED_REQUEST: u16 = 499;

const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");

/// The proxy, as an application of Pingora.
pub struct Proxy {
    pools: Pools,
    ids: Arc<RequestIds>,
}

impl Proxy {
    /// Creates a proxy that asks these agents.
    pub fn new(pools: Pools) -> Self {
        Self {
            pools,
            ids: RequestIds::new(),
        }
    }

    fn agents(&self) -> Agents<'_> {
        Agents {
            all: &self.pools.config().agents,
            stages: self.pools.stages(),
        }
    }

    /// Asks about the head of the request. Returns early if the client of a request without a body
    /// disconnects.
    async fn judge_request(&self, session: &mut Session, ctx: &mut Request) -> Result<(), Stop> {
        let exchanges = self.pools.exchanges(&ctx.id)?;
        let client = session
            .client_addr()
            .and_then(|address| address.as_inet())
            .copied();
        let client_ip = client.map(|address| IpText::from(address.ip()));
        let timestamp = Timestamp::now();
        let has_body = !session.is_body_empty();
        let mut head = header_swap::lend(session).map_err(Stop::Pingora)?;
        let host = head.headers.get(HOST).cloned();
        let traceparent = head.headers.get(TRACEPARENT).cloned();
        let metadata = Metadata {
            client_ip: client_ip.as_deref().unwrap_or_default(),
            client_port: client.map_or(0, |address| address.port()),
            server_name: host.as_ref().and_then(|host| host.to_str().ok()),
            protocol: protocol(head.version),
            timestamp: &timestamp,
            traceparent: traceparent.as_ref().and_then(|value| value.to_str().ok()),
            ..Metadata::default()
        };
        let judged = {
            let mut judging =
                pin!(ctx.judge_request(exchanges, self.agents(), metadata, &mut head));
            let mut disconnected = pin!(client_gone(session, &self.pools));
            // Polled by hand: tokio's `select!` also does the bookkeeping of cooperative
            // scheduling, which costs about 190 instructions. A request with a body is not watched:
            // reading it here would consume the body.
            poll_fn(|cx| match judging.as_mut().poll(cx) {
                Poll::Pending if !has_body => disconnected
                    .as_mut()
                    .poll(cx)
                    .map(|error| Err(Stop::Pingora(error))),
                judged => judged,
            })
            .await
        };
        header_swap::give_back(session, head);
        judged
    }
}

/// Resolves when the client of a request without a body disconnects.
async fn client_gone(session: &mut Session, pools: &Pools) -> Box<Error> {
    pools.wait_before_client_check().await;
    match session.as_downstream_mut().read_body_or_idle(true).await {
        Err(error) => error.into_down(),
        Ok(_) => std::future::pending().await,
    }
}

#[async_trait]
impl ProxyHttp for Proxy {
    type CTX = Request;

    fn new_ctx(&self) -> Request {
        Request::new(self.ids.next(), || self.pools.held_body())
    }

    async fn request_filter(
        &self,
        session: &mut Session,
        ctx: &mut Request,
    ) -> pingora::Result<bool> {
        // Agents could not inspect the data after an upgrade, as it is not HTTP.
        if session.req_header().headers.contains_key(UPGRADE) {
            respond(session, plain_answer(StatusCode::NOT_IMPLEMENTED)).await?;
            return Ok(true);
        }
        if self.pools.config().agents.is_empty() {
            return Ok(false);
        }
        match self.judge_request(session, ctx).await {
            Ok(()) => Ok(false),
            Err(Stop::Pingora(error)) => Err(error),
            Err(stop) => {
                respond(session, stop.into_answer()).await?;
                Ok(true)
            }
        }
    }

    async fn upstream_peer(
        &self,
        _session: &mut Session,
        ctx: &mut Request,
    ) -> pingora::Result<Box<HttpPeer>> {
        ctx.upstream_attempts += 1;
        let upstream = self.pools.config().upstream;
        Ok(Box::new(HttpPeer::new(upstream, false, String::new())))
    }

    async fn upstream_request_filter(
        &self,
        session: &mut Session,
        upstream_request: &mut RequestHeader,
        ctx: &mut Request,
    ) -> pingora::Result<()> {
        // Agents may change the length of the body; without a length Pingora uses chunked encoding.
        if ctx.may_change(self.agents(), EventType::RequestBodyChunk) && !session.is_body_empty() {
            upstream_request.remove_header(&CONTENT_LENGTH);
        }
        Ok(())
    }

    async fn request_body_filter(
        &self,
        _session: &mut Session,
        body: &mut Option<Bytes>,
        end_of_stream: bool,
        ctx: &mut Request,
    ) -> pingora::Result<()> {
        let had_none = body.is_none();
        let data = body.take().unwrap_or_default();
        let judged = ctx
            .judge_request_chunk(self.agents(), data, end_of_stream)
            .await;
        let passed = judged.map_err(|stop| stop_with(ctx, stop))?;
        // Keep `Some` for a held-back chunk: Pingora takes `None` in the middle of a body for its
        // end.
        *body = Some(passed).filter(|passed| !(had_none && passed.is_empty()));
        Ok(())
    }

    async fn response_filter(
        &self,
        session: &mut Session,
        response: &mut ResponseHeader,
        ctx: &mut Request,
    ) -> pingora::Result<()> {
        if response.status.is_informational() {
            return Ok(());
        }
        if ctx.is_any_subscribed(EventType::ResponseBodyChunk) && !may_block() {
            tracing::error!(
                "agents subscribe to response bodies, which requires work_stealing = true"
            );
            ctx.answer = Some(plain_answer(StatusCode::INTERNAL_SERVER_ERROR));
            return Err(Error::explain(
                ErrorType::InternalError,
                "response bodies cannot be inspected without work_stealing = true",
            ));
        }
        let judged = ctx.judge_response(self.agents(), response).await;
        judged.map_err(|stop| stop_with(ctx, stop))?;
        if ctx.may_change(self.agents(), EventType::ResponseBodyChunk)
            && response.headers.contains_key(CONTENT_LENGTH)
            && session.req_header().method != Method::HEAD
            && !matches!(response.status.as_u16(), 204 | 304)
        {
            response.remove_header(&CONTENT_LENGTH);
            response.insert_header(TRANSFER_ENCODING, "chunked")?;
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
        if !ctx.is_any_subscribed(EventType::ResponseBodyChunk) {
            ctx.response_body.bytes += body.as_ref().map_or(0, Bytes::len);
            return Ok(None);
        }
        let data = body.take().unwrap_or_default();
        let judging = ctx.judge_response_chunk(self.agents(), data, end_of_stream);
        let judged = tokio::task::block_in_place(|| Handle::current().block_on(judging));
        let passed = judged.map_err(|stop| stop_with(ctx, stop))?;
        *body = Some(passed).filter(|passed| !passed.is_empty());
        Ok(None)
    }

    /// Suppresses Pingora's error log for decisions of agents and for disconnected clients.
    /// Failures of agents are logged where they happen.
    fn suppress_error_log(&self, _session: &Session, _ctx: &Request, error: &Error) -> bool {
        matches!(error.etype(), ErrorType::HTTPStatus(_)) || is_client_disconnect(error)
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
        // Repeating a request would send its body chunks to the agents again, as if they continued
        // the body.
        let can_repeat = client_reused
            && ctx.request_body.bytes == 0
            && !session.as_ref().retry_buffer_truncated();
        error.retry.decide_reuse(can_repeat);
        error
    }

    async fn fail_to_proxy(
        &self,
        session: &mut Session,
        error: &Error,
        ctx: &mut Request,
    ) -> FailToProxy {
        let has_begun = session.response_written().is_some();
        let answer = ctx.answer.take().or_else(|| response_to(error));
        let mut error_code = 0;
        if let Some(answer) = answer.filter(|_| !has_begun) {
            error_code = answer.status().as_u16();
            if let Err(error) = respond(session, answer).await {
                tracing::debug!(%error, "cannot send the error response to the client");
            }
        }
        FailToProxy {
            error_code,
            can_reuse_downstream: false,
        }
    }

    async fn logging(&self, session: &mut Session, error: Option<&Error>, ctx: &mut Request) {
        let is_disconnect = error.is_some_and(is_client_disconnect);
        if is_disconnect {
            ctx.cancel(CancelReason::ClientDisconnect);
        }
        let written = session.response_written();
        let status = match written {
            _ if is_disconnect => CLIENT_CLOSED_REQUEST,
            Some(head) => head.status.as_u16(),
            None => 0,
        };
        ctx.complete(status, error.map(|error| error.etype().as_str().to_owned()));
    }
}

/// Returns whether this runtime allows blocking one of its threads.
fn may_block() -> bool {
    Handle::current().runtime_flavor() == RuntimeFlavor::MultiThread
}

/// Stores the response for the client and returns the error that ends the request.
fn stop_with(ctx: &mut Request, stop: Stop) -> Box<Error> {
    let answer = stop.into_answer();
    let status = answer.status().as_u16();
    ctx.answer = Some(answer);
    Error::explain(
        ErrorType::HTTPStatus(status),
        "ended by an agent or its failure",
    )
}

fn is_client_disconnect(error: &Error) -> bool {
    let is_lost = matches!(
        error.etype(),
        ErrorType::ReadError | ErrorType::WriteError | ErrorType::ConnectionClosed
    );
    is_lost && *error.esource() == ErrorSource::Downstream
}

/// Returns the response to an error that no agent caused, or `None` if the client is disconnected.
fn response_to(error: &Error) -> Option<http::Response<Bytes>> {
    let status = match (error.etype(), error.esource()) {
        (ErrorType::HTTPStatus(status), _) => StatusCode::from_u16(*status).ok()?,
        (_, ErrorSource::Upstream) => StatusCode::BAD_GATEWAY,
        (_, ErrorSource::Downstream) if is_client_disconnect(error) => return None,
        (_, ErrorSource::Downstream) => StatusCode::BAD_REQUEST,
        (_, ErrorSource::Internal | ErrorSource::Unset) => StatusCode::INTERNAL_SERVER_ERROR,
    };
    Some(plain_answer(status))
}
