//! One request on its way through the proxy, and what its agents say at each step.

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
    AgentProtocolError, BodyChunk, BodyMutation, CancelReason, EventType, Exchange, HeaderOp,
    Metadata, RequestComplete, RequestHeaders, ResponseHeaders,
};

/// What one request carries from phase to phase.
pub struct Request {
    /// Joins what agents are asked about it.
    pub id: String,
    pub(crate) began: Instant,
    pub(crate) upstream_attempts: u32,
    /// What the client gets instead of what the upstream says.
    pub(crate) answer: Option<Response<Bytes>>,
    pub(crate) request_body: Body,
    pub(crate) response_body: Body,
    exchanges: Vec<Exchange>,
    /// Changes to the response's headers that agents asked for before there were any.
    response_headers: Vec<HeaderOp>,
}

/// How far a body is.
pub(crate) struct Body {
    held: HeldBody,
    next_chunk: u32,
    pub(crate) bytes: usize,
    is_over: bool,
}

/// Why a request does not go on.
#[derive(Debug)]
pub(crate) enum Stop {
    /// An agent decided so.
    Denied(Box<Response<Bytes>>),
    /// An agent could not be asked.
    Failed(AgentProtocolError),
    /// An agent wants headers changed in a way that is not to be followed.
    Headers(HeaderOpError),
    /// An agent wants a body changed in a way that is not possible, or to see too much of it.
    Body(BodyError),
    /// An agent that is said to only decide wants a body changed.
    NotAllowedToChange,
    /// Something else went wrong, such as that the client went away.
    Pingora(Box<pingora::Error>),
}

/// Who is asked, and in which groups.
#[derive(Clone, Copy)]
pub(crate) struct Agents<'a> {
    pub(crate) all: &'a [Agent],
    pub(crate) stages: &'a [Range<usize>],
}

impl Request {
    pub(crate) fn new(id: String, max_held_body: usize) -> Self {
        Self {
            id,
            began: Instant::now(),
            upstream_attempts: 0,
            answer: None,
            request_body: Body::new(max_held_body),
            response_body: Body::new(max_held_body),
            exchanges: Vec::new(),
            response_headers: Vec::new(),
        }
    }

    /// Asks about the head of the request, and changes it as agents want it. `metadata` gets the id of the request.
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

    /// Asks about the head of the response, and changes it as agents want it and wanted it before.
    pub(crate) async fn judge_response(
        &mut self,
        agents: Agents<'_>,
        head: &mut ResponseHeader,
    ) -> Result<(), Stop> {
        let earlier = std::mem::take(&mut self.response_headers);
        apply_header_ops(&mut Headers(head), &earlier)?;
        for stage in agents.stages {
            let exchanges = &mut self.exchanges[stage.clone()];
            if !are_subscribed(exchanges, EventType::ResponseHeaders) {
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

    /// Asks about a piece of the request's body. Returns what may go on to the upstream by now.
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

    /// Asks about a piece of the response's body. Returns what may go on to the client by now.
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

    /// Whether an agent wants to know of this kind of event.
    pub(crate) fn is_anybody_subscribed(&self, kind: EventType) -> bool {
        are_subscribed(&self.exchanges, kind)
    }

    /// Whether a body may come out with another length than it has.
    pub(crate) fn may_change(&self, agents: Agents<'_>, kind: EventType) -> bool {
        let mut asked = agents.all.iter().zip(&self.exchanges);
        asked.any(|(agent, exchange)| agent.role == Role::Changes && exchange.is_subscribed(kind))
    }

    /// Tells the agents that nobody waits for them any more.
    pub(crate) fn cancel(&mut self, reason: CancelReason) {
        for exchange in self.exchanges.drain(..) {
            exchange.cancel(reason);
        }
    }

    /// Tells the agents how the request ended. Does not wait for what they say to that.
    pub(crate) fn complete(&mut self, status: u16, error: Option<String>) {
        // Another agent was faster than those who have not answered.
        let is_late = |exchange: &mut Exchange| exchange.unanswered() > 0;
        for late in self.exchanges.extract_if(.., is_late) {
            late.cancel(CancelReason::BlockedByAgent);
        }
        let mut exchanges = std::mem::take(&mut self.exchanges);
        exchanges.retain(|exchange| exchange.is_subscribed(EventType::RequestComplete));
        if exchanges.is_empty() {
            return;
        }
        let id = std::mem::take(&mut self.id);
        let (began, upstream_attempts) = (self.began, self.upstream_attempts);
        let (received, sent) = (self.request_body.bytes, self.response_body.bytes);
        let mut telling = Box::pin(async move {
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
                    tracing::debug!(%error, "an agent does not know that a request is over");
                }
            }
        });
        // Most go out at once, without another task.
        let begun = telling
            .as_mut()
            .poll(&mut Context::from_waker(Waker::noop()));
        if begun == Poll::Pending {
            tokio::spawn(telling);
        }
    }
}

impl Body {
    fn new(max_held: usize) -> Self {
        Self {
            held: HeldBody::with_limit(max_held),
            next_chunk: 0,
            bytes: 0,
            is_over: false,
        }
    }

    /// Asks about a piece. Returns what may go on by now, and changes to the response's headers.
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
        let says_nothing = data.is_empty() && (!is_last || self.next_chunk == 0);
        let is_repeated_end = self.is_over && data.is_empty();
        if says_nothing || is_repeated_end || !are_subscribed(exchanges, kind) {
            return Ok((data, Vec::new()));
        }
        self.is_over = is_last;
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
                EventType::RequestBodyChunk => ask(exchanges, &chunk.to_request_event()).await?,
                _ => ask(exchanges, &chunk.to_response_event()).await?,
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
    /// What the client gets.
    pub(crate) fn into_answer(self) -> Response<Bytes> {
        plain_answer(match self {
            Self::Denied(answer) => return *answer,
            Self::Failed(error) => {
                tracing::warn!(%error, "an agent could not be asked");
                status_of(&error)
            }
            Self::Headers(error) => {
                tracing::warn!(%error, "an agent wants headers changed that it must not change");
                StatusCode::BAD_GATEWAY
            }
            Self::Body(error @ BodyError::TooLarge { .. }) => {
                tracing::warn!(%error, "a body is too large to be judged");
                StatusCode::PAYLOAD_TOO_LARGE
            }
            Self::Body(error) => {
                tracing::warn!(%error, "an agent wants a body changed");
                StatusCode::BAD_GATEWAY
            }
            Self::Pingora(error) => {
                tracing::warn!(%error, "a request ends");
                StatusCode::INTERNAL_SERVER_ERROR
            }
            Self::NotAllowedToChange => {
                tracing::warn!("an agent that only decides wants a body changed");
                StatusCode::BAD_GATEWAY
            }
        })
    }
}

impl From<AgentProtocolError> for Stop {
    fn from(error: AgentProtocolError) -> Self {
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
                "denied"
            );
            Err(Stop::Denied(Box::new(denial.to_http())))
        }
    }
}

fn are_subscribed(exchanges: &[Exchange], kind: EventType) -> bool {
    let mut exchanges = exchanges.iter();
    exchanges.any(|exchange| exchange.is_subscribed(kind))
}
