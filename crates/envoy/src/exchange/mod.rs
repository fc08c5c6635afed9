//! One exchange: an HTTP request and its response, on one stream of ext_proc.

mod ask;
mod body;
mod direction;
mod head;
mod verdict;

pub(crate) use verdict::denial;

use crate::agent::{Agent, Id, Warning};
use crate::grpc::{Code, GrpcStream, Status, StreamEnd};
use crate::side::Side;
use crate::wire::{Immediate, Malformed, Metadata, Phase, ProcessingRequest};
use bytes::Bytes;
use direction::Direction;
use http::{Response, StatusCode};
use std::time::{Duration, Instant};
use tokio::time::{timeout, timeout_at};
use tollgate::proxy::plain_answer;
use tollgate::{HeaderOp, RequestComplete};

/// Time in which Envoy has to take the last answer.
const LAST_ANSWER_TIMEOUT: Duration = Duration::from_secs(5);

/// Statuses of streams that did not end as they should.
const UNDECODABLE: Status = Status::new(Code::Internal, "the message cannot be decoded");
const UNFINISHED: Status = Status::new(Code::Internal, "the stream ended before it was judged");
const FAILED: Status = Status::new(Code::Internal, "the request was not judged");

/// An exchange under way.
struct Exchange<'c> {
    agent: &'c Agent,
    stream: GrpcStream<'c>,
    id: Id,
    begun: Instant,
    request: Direction,
    response: Direction,
    /// Set if Envoy itself said the modes of bodies.
    has_modes: bool,
    /// Set if Envoy takes no answers.
    observes: bool,
    /// Set if the request may become a tunnel.
    asks_for_tunnel: bool,
    /// Changes to response headers that were asked for before the response.
    early_ops: Vec<HeaderOp>,
    metadata: Metadata,
    /// Status of the response that the client gets; 0 if it is not known.
    status: u16,
    /// Number of upstreams that were tried.
    attempts: u32,
    /// Set once the agent has decided against the request.
    is_denied: bool,
    /// Set if Envoy ended the exchange while the handler worked.
    is_cancelled: bool,
}

/// Reason why an exchange does not go on.
enum Stop {
    /// The agent decided against it: the client gets this response.
    Denied(Box<Response<Bytes>>),
    /// It could not be judged: the client gets this status.
    Failed(StatusCode),
    /// The stream ends with this status.
    Ended(Status),
    /// Envoy has ended the stream, as it does with every stream.
    Gone,
}

impl From<StreamEnd> for Stop {
    fn from(end: StreamEnd) -> Self {
        match end {
            StreamEnd::Gone => Self::Gone,
            StreamEnd::Broken(status) => Self::Ended(status),
        }
    }
}

/// Runs an exchange until its stream ends.
pub(crate) async fn serve<'c>(agent: &'c Agent, stream: GrpcStream<'c>) {
    agent.counters().exchanges.add_one();
    let mut exchange = Exchange::new(agent, stream);
    let ended = exchange.run().await;
    exchange.conclude(ended).await;
}

impl<'c> Exchange<'c> {
    fn new(agent: &'c Agent, stream: GrpcStream<'c>) -> Self {
        let modes = agent.config().body_modes;
        let direction = |mode, is_asked: bool| Direction {
            mode,
            is_unasked: !is_asked,
            ..Direction::default()
        };
        Self {
            agent,
            stream,
            id: agent.next_id(),
            begun: Instant::now(),
            request: direction(modes.map(|modes| modes.0), agent.events.request_body),
            response: direction(modes.map(|modes| modes.1), agent.events.response_body),
            has_modes: false,
            observes: false,
            asks_for_tunnel: false,
            early_ops: Vec::new(),
            metadata: Metadata::default(),
            status: 0,
            attempts: 0,
            is_denied: false,
            is_cancelled: false,
        }
    }

    /// Answers messages until Envoy has closed its side.
    async fn run(&mut self) -> Result<(), Stop> {
        loop {
            let held_until = [self.request.held_until, self.response.held_until];
            let next = self.stream.next();
            let message = match held_until.into_iter().flatten().min() {
                None => next.await?,
                Some(until) => match timeout_at(until, next).await {
                    Ok(message) => message?,
                    Err(_) => {
                        self.end_hold().await?;
                        continue;
                    }
                },
            };
            let Some(message) = message else {
                return Ok(());
            };
            let request = ProcessingRequest::read(&message).map_err(|error| self.refuse(error))?;
            self.observes = request.observability;
            if let Some((request, response)) = request.modes {
                self.request.mode = Some(request);
                self.response.mode = Some(response);
                self.has_modes = true;
            }
            self.on_phase(request, &message).await?;
        }
    }

    async fn on_phase(
        &mut self,
        request: ProcessingRequest<'_>,
        message: &Bytes,
    ) -> Result<(), Stop> {
        match request.phase {
            Phase::RequestHeaders(head) => self.on_request_head(head, request.attributes).await,
            Phase::ResponseHeaders(head) => self.on_response_head(head, request.attributes).await,
            Phase::RequestBody(body) => {
                let data = message.slice_ref(body.body);
                self.on_body(Side::Request, data, body.end_of_stream).await
            }
            Phase::ResponseBody(body) => {
                let data = message.slice_ref(body.body);
                self.on_body(Side::Response, data, body.end_of_stream).await
            }
            Phase::RequestTrailers => self.on_trailers(Side::Request).await,
            Phase::ResponseTrailers => self.on_trailers(Side::Response).await,
        }
    }

    fn direction(&mut self, side: Side) -> &mut Direction {
        match side {
            Side::Request => &mut self.request,
            Side::Response => &mut self.response,
        }
    }

    /// Ends the exchange because of a message that cannot be decoded.
    fn refuse(&self, error: Malformed) -> Stop {
        tracing::debug!(%error, "a message of Envoy cannot be decoded");
        self.agent.counters().undecodable.add_one();
        Stop::Ended(UNDECODABLE)
    }

    /// Ends the exchange because of a message that means nothing in this phase.
    fn out_of_order(&self) -> Stop {
        self.refuse(Malformed::Repeated)
    }

    /// Sends an answer, unless Envoy takes none.
    async fn send(&mut self, frame: Bytes, body: Bytes) -> Result<(), Stop> {
        if self.observes {
            return Ok(());
        }
        Ok(self.stream.send(frame, body).await?)
    }

    /// Says how the exchange ended: to Envoy, and to the handler.
    async fn conclude(&mut self, ended: Result<(), Stop>) {
        self.count_lost_changes();
        let is_judged = !(self.request.is_held() || self.response.is_held());
        let is_open = self.request.is_open() || self.response.is_open();
        let (response, status) = match ended {
            Ok(()) if is_judged && !is_open => (None, Some(Status::OK)),
            Ok(()) => (None, Some(UNFINISHED)),
            Err(Stop::Denied(response)) => (Some(*response), Some(Status::OK)),
            Err(Stop::Failed(status)) => (Some(plain_answer(status)), Some(FAILED)),
            Err(Stop::Ended(status)) => (None, Some(status)),
            Err(Stop::Gone) => (None, None),
        };
        let error = match (&response, status) {
            (Some(_), Some(Status::OK)) => None,
            (_, Some(status)) if status != Status::OK => Some(status.message),
            _ if is_open || !is_judged || self.is_cancelled => {
                Some("the request ended before it was complete")
            }
            _ => None,
        };
        let mut is_answered = true;
        if let Some(response) = &response {
            self.status = response.status().as_u16();
            let answered = timeout(LAST_ANSWER_TIMEOUT, self.answer_client(response)).await;
            is_answered = matches!(answered, Ok(Ok(())));
            tracing::trace!(is_answered, "an exchange was answered");
        }
        self.tell_end(error).await;
        if let Some(status) = status {
            // To Envoy, status 0 without an answer means that the request is allowed.
            let status = if is_answered { status } else { FAILED };
            // Whatever happens, Envoy goes on with a request that is only observed.
            let status = if self.observes { Status::OK } else { status };
            self.stream.finish(status);
        }
    }

    /// Sends the response that the client gets in place of the upstream's.
    async fn answer_client(&mut self, response: &Response<Bytes>) -> Result<(), Stop> {
        let metadata = std::mem::take(&mut self.metadata);
        let immediate = Immediate {
            response,
            details: metadata.reason().unwrap_or_default(),
            metadata: (!metadata.is_empty()).then_some(&metadata),
        };
        let frame = immediate.frame(&mut self.stream.out);
        self.send(frame, response.body().clone()).await
    }

    async fn tell_end(&self, error: Option<&str>) {
        let has_begun = self.request.has_head || self.request.bytes > 0 || self.response.has_head;
        if !self.agent.events.complete || !has_begun {
            return;
        }
        let event = RequestComplete {
            correlation_id: self.id.as_str(),
            status: self.status,
            duration_ms: self
                .begun
                .elapsed()
                .as_millis()
                .try_into()
                .unwrap_or(u64::MAX),
            request_body_size: self.request.bytes,
            response_body_size: self.response.bytes,
            upstream_attempts: self.attempts,
            error,
        };
        self.tell(&event).await;
    }

    fn count_lost_changes(&self) {
        if !self.response.fold.is_empty() && !self.response.has_head && !self.is_denied {
            self.agent.counters().lost_response_changes.add_one();
            self.agent.warn_once(Warning::LostChange);
        }
    }
}
