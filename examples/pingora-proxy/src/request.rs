//! The state of one request, and the calls to its agents in each phase.

use crate::config::{Agent, Role};
use crate::messages::Headers;
use bytes::Bytes;
use http::{Response, StatusCode};
use pingora::http::{RequestHeader, ResponseHeader};
use std::borrow::Cow;
use std::future::Future;
use std::ops::Range;
use std::task::{Context, Poll, Waker};
use std::time::Instant;
use tollgate::proxy::{
    BodyError, Changes, HeaderOpError, HeldBody, Verdict, apply_header_ops, ask_together,
    plain_answer, status_of,
};
use tollgate::{
    BodyChunk, CallError, CancelReason, EventType, Exchange, HeaderOp, Metadata, RequestBodyChunk,
    RequestComplete, RequestHeaders, ResponseBodyChunk, ResponseHeaders, response::BodyMutation,
};

/// State of one request across Pingora's phases.
pub struct Request {
    /// Correlation id of the request's events.
    pub id: String,
    pub(crate) began: Instant,
    pub(crate) upstream_attempts: u32,
    /// Response to the client instead of the upstream's.
    pub(crate) answer: Option<Response<Bytes>>,
    pub(crate) request_body: Body,
    pub(crate) response_body: Body,
    exchanges: Vec<Exchange>,
    /// Response header changes that agents requested before the response arrived.
    response_headers: Vec<HeaderOp>,
}

/// Progress of a body.
pub(crate) struct Body {
    held: HeldBody,
    next_chunk: u32,
    pub(crate) bytes: usize,
    has_ended: bool,
}

/// Reason why a request ends early.
#[derive(Debug)]
pub(crate) enum Stop {
    /// An agent denied the request. Holds the response for the client.
    Denied(Box<Response<Bytes>>),
    /// A call to an agent failed.
    Failed(CallError),
    /// An agent requested a header change that is not permitted.
    Headers(HeaderOpError),
    /// An agent requested an impossible body change, or more of a body than may be held back.
    Body(BodyError),
    /// An agent with [`Role::Decides`] requested a body change.
    NotAllowedToChange,
    /// Any other error, for example a disconnected client.
    Pingora(Box<pingora::Error>),
}

/// The agents, and the groups in which they are asked.
#[derive(Clone, Copy)]
pub(crate) struct Agents<'a> {
    pub(crate) all: &'a [Agent],
    pub(crate) stages: &'a [Range<usize>],
}

impl Request {
    pub(crate) fn new(id: String, held_body: impl Fn() -> HeldBody) -> Self {
        Self {
            id,
            began: Instant::now(),
            upstream_attempts: 0,
            answer: None,
            request_body: Body::new(held_body()),
            response_body: Body::new(held_body()),
            exchanges: Vec::new(),
            response_headers: Vec::new(),
        }
    }

    /// Asks about the head of the request and applies the agents' changes. Sets the request's id in
    /// `metadata`.
    pub(crate) async fn judge_request(
        &mut self,
        exchanges: Vec<Exchange>,
        agents: Agents<'_>,
        metadata: Metadata<'_>,
        head: &mut RequestHeader,
    ) -> Result<(), Stop> {
        self.exchanges = exchanges;
        let metadata = Metadata {
            correlation_id: &self.id,
            request_id: &self.id,
            ..metadata
        };
        for stage in agents.stages {
            let path = head.raw_path();
            let path =
                str::from_utf8(path).map_or_else(|_| String::from_utf8_lossy(path), Cow::Borrowed);
            let event = RequestHeaders {
                metadata,
                method: head.method.as_str(),
                uri: &path,
                headers: &head.headers,
            };
            let changes = ask(&mut self.exchanges[stage.clone()], &event).await?;
            apply_header_ops(&mut Headers(head), &changes.request_headers)?;
            self.response_headers.extend(changes.response_headers);
        }
        Ok(())
    }

    /// Asks about the head of the response. Applies the agents' changes, and those that they
    /// requested earlier.
    pub(crate) async fn judge_response(
        &mut self,
        agents: Agents<'_>,
        head: &mut ResponseHeader,
    ) -> Result<(), Stop> {
        let earlier = std::mem::take(&mut self.response_headers);
        apply_header_ops(&mut Headers(head), &earlier)?;
        for stage in agents.stages {
            let exchanges = &mut self.exchanges[stage.clone()];
            if !is_any_subscribed_to(exchanges, EventType::ResponseHeaders) {
                continue;
            }
            let event = ResponseHeaders {
                correlation_id: &self.id,
                status: head.status.as_u16(),
                headers: &head.headers,
            };
            let changes = ask(exchanges, &event).await?;
            apply_header_ops(&mut Headers(head), &changes.response_headers)?;
        }
        Ok(())
    }

    /// Asks about a chunk of the request's body. Returns the bytes that may be sent to the
    /// upstream.
    pub(crate) async fn judge_request_chunk(
        &mut self,
        agents: Agents<'_>,
        data: Bytes,
        is_last: bool,
    ) -> Result<Bytes, Stop> {
        let (body, exchanges) = (&mut self.request_body, &mut self.exchanges);
        let kind = EventType::RequestBodyChunk;
        let judged = body.judge(exchanges, agents, &self.id, kind, data, is_last);
        let (passed, response_headers) = judged.await?;
        self.response_headers.extend(response_headers);
        Ok(passed)
    }

    /// Asks about a chunk of the response's body. Returns the bytes that may be sent to the client.
    pub(crate) async fn judge_response_chunk(
        &mut self,
        agents: Agents<'_>,
        data: Bytes,
        is_last: bool,
    ) -> Result<Bytes, Stop> {
        let (body, exchanges) = (&mut self.response_body, &mut self.exchanges);
        let kind = EventType::ResponseBodyChunk;
        let judged = body.judge(exchanges, agents, &self.id, kind, data, is_last);
        Ok(judged.await?.0)
    }

    /// Returns whether an agent is subscribed to this type of event.
    pub(crate) fn is_any_subscribed(&self, kind: EventType) -> bool {
        is_any_subscribed_to(&self.exchanges, kind)
    }

    /// Returns whether agents may change the length of a body.
    pub(crate) fn may_change(&self, agents: Agents<'_>, kind: EventType) -> bool {
        let mut asked = agents.all.iter().zip(&self.exchanges);
        asked.any(|(agent, exchange)| agent.role == Role::Changes && exchange.is_subscribed(kind))
    }

    /// Cancels the exchanges with all agents.
    pub(crate) fn cancel(&mut self, reason: CancelReason) {
        for exchange in self.exchanges.drain(..) {
            exchange.cancel(reason);
        }
    }

    /// Sends the request complete event to the agents. Does not wait for their answers.
    pub(crate) fn complete(&mut self, status: u16, error: Option<String>) {
        // These agents have not answered because another agent blocked the request first.
        let is_unanswered = |exchange: &mut Exchange| exchange.unanswered() > 0;
        for exchange in self.exchanges.extract_if(.., is_unanswered) {
            exchange.cancel(CancelReason::BlockedByAgent);
        }
        let mut exchanges = std::mem::take(&mut self.exchanges);
        exchanges.retain(|exchange| exchange.is_subscribed(EventType::RequestComplete));
        if exchanges.is_empty() {
            return;
        }
        let id = std::mem::take(&mut self.id);
        let (began, upstream_attempts) = (self.began, self.upstream_attempts);
        let (received, sent) = (self.request_body.bytes, self.response_body.bytes);
        let mut notifying = Box::pin(async move {
            let event = RequestComplete {
                correlation_id: &id,
                status,
                duration_ms: u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX),
                request_body_size: received,
                response_body_size: sent,
                upstream_attempts,
                error: error.as_deref(),
            };
            for exchange in &mut exchanges {
                if let Err(error) = exchange.send(&event).await {
                    tracing::debug!(%error, "cannot notify an agent of a completed request");
                }
            }
        });
        // Usually the events are sent by the first poll, which saves spawning a task.
        let polled = notifying
            .as_mut()
            .poll(&mut Context::from_waker(Waker::noop()));
        if polled == Poll::Pending {
            tokio::spawn(notifying);
        }
    }
}

impl Body {
    fn new(held: HeldBody) -> Self {
        Self {
            held,
            next_chunk: 0,
            bytes: 0,
            has_ended: false,
        }
    }

    /// Asks about a chunk. Returns the bytes that may be forwarded, and the requested changes to
    /// the response's headers.
    async fn judge(
        &mut self,
        exchanges: &mut [Exchange],
        agents: Agents<'_>,
        correlation_id: &str,
        kind: EventType,
        data: Bytes,
        is_last: bool,
    ) -> Result<(Bytes, Vec<HeaderOp>), Stop> {
        self.bytes += data.len();
        // An empty chunk carries no information unless it ends a body that has begun, and Pingora
        // may report the end of a body twice.
        let is_no_chunk = data.is_empty() && (!is_last || self.next_chunk == 0);
        let is_repeated_end = self.has_ended && data.is_empty();
        if is_no_chunk || is_repeated_end || !is_any_subscribed_to(exchanges, kind) {
            return Ok((data, Vec::new()));
        }
        self.has_ended = is_last;
        let index = self.next_chunk;
        self.next_chunk += 1;
        self.held.keep(index, data)?;
        let mut needs_more = false;
        let mut response_headers = Vec::new();
        for stage in agents.stages {
            let data = self.held.last().cloned().unwrap_or_default();
            if data.is_empty() && !is_last {
                break;
            }
            let chunk = BodyChunk {
                correlation_id,
                data,
                is_last,
                total_size: None,
                chunk_index: index,
                bytes_so_far: self.bytes,
            };
            let exchanges = &mut exchanges[stage.clone()];
            let changes = match kind {
                EventType::RequestBodyChunk => ask(exchanges, &RequestBodyChunk(chunk)).await?,
                _ => ask(exchanges, &ResponseBodyChunk(chunk)).await?,
            };
            let mutations = match kind {
                EventType::RequestBodyChunk => &changes.request_body,
                _ => &changes.response_body,
            };
            self.change(mutations, &agents.all[stage.clone()])?;
            needs_more |= changes.needs_more;
            response_headers.extend(changes.response_headers);
        }
        let passed = if needs_more && !is_last {
            Bytes::new()
        } else {
            self.held.release()
        };
        Ok((passed, response_headers))
    }

    fn change(&mut self, mutations: &[BodyMutation], agents: &[Agent]) -> Result<(), Stop> {
        let changes = mutations.iter().any(|mutation| !mutation.is_pass_through());
        if changes && agents.iter().all(|agent| agent.role == Role::Decides) {
            return Err(Stop::NotAllowedToChange);
        }
        Ok(self.held.change(mutations)?)
    }
}

impl Stop {
    /// Logs the reason and returns the response for the client.
    pub(crate) fn into_answer(self) -> Response<Bytes> {
        plain_answer(match self {
            Self::Denied(answer) => return *answer,
            Self::Failed(error) => {
                tracing::warn!(%error, "a call to an agent failed");
                status_of(&error)
            }
            Self::Headers(error) => {
                tracing::warn!(%error, "an agent requested a header change that is not permitted");
                StatusCode::BAD_GATEWAY
            }
            Self::Body(error @ BodyError::TooLarge { .. }) => {
                tracing::warn!(%error, "an agent asked for more of a body than may be held back");
                StatusCode::PAYLOAD_TOO_LARGE
            }
            Self::Body(error @ BodyError::OverMemory) => {
                tracing::warn!(%error, "a body cannot be held back");
                StatusCode::SERVICE_UNAVAILABLE
            }
            Self::Body(error) => {
                tracing::warn!(%error, "an agent requested a body change that cannot be applied");
                StatusCode::BAD_GATEWAY
            }
            Self::Pingora(error) => {
                tracing::warn!(%error, "a request ended with an error");
                StatusCode::INTERNAL_SERVER_ERROR
            }
            Self::NotAllowedToChange => {
                tracing::warn!("an agent with role = \"decides\" requested a body change");
                StatusCode::BAD_GATEWAY
            }
        })
    }
}

impl From<CallError> for Stop {
    fn from(error: CallError) -> Self {
        Self::Failed(error)
    }
}

impl From<HeaderOpError> for Stop {
    fn from(error: HeaderOpError) -> Self {
        Self::Headers(error)
    }
}

impl From<BodyError> for Stop {
    fn from(error: BodyError) -> Self {
        Self::Body(error)
    }
}

async fn ask<E: tollgate::Event>(exchanges: &mut [Exchange], event: &E) -> Result<Changes, Stop> {
    match ask_together(exchanges, event).await? {
        Verdict::Allow(changes) => Ok(changes),
        Verdict::Deny(denial) => {
            tracing::info!(
                agent = &*denial.agent_id,
                decision = denial.response.decision.as_str(),
                "an agent denied the request"
            );
            Err(Stop::Denied(Box::new(denial.to_http())))
        }
    }
}

fn is_any_subscribed_to(exchanges: &[Exchange], kind: EventType) -> bool {
    let mut exchanges = exchanges.iter();
    exchanges.any(|exchange| exchange.is_subscribed(kind))
}
