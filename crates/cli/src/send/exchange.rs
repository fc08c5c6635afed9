//! Sends the events of one HTTP request in the order in which a proxy sends them.

use super::Request;
use super::body::Body;
use super::step::Step;
use crate::exit::{AgentError, AgentFailure};
use crate::output::print_line;
use bytes::Bytes;
use std::time::Instant;
use tollgate::{
    Agent, AgentResponse, CallError, Decision, Event, EventType, Metadata, RequestComplete,
    RequestHeaders, ResponseHeaders,
    events::{RequestBodyChunkEvent, ResponseBodyChunkEvent, Timestamp},
};

pub(super) const UPSTREAM_STATUS: u16 = 200;
pub(super) const UPSTREAM_HEADERS: [(&str, &str); 1] = [("content-type", "text/plain")];
pub(super) const UPSTREAM_BODY: &[u8] = b"hello\n";

/// Status of a challenge, for which the protocol does not define one.
const CHALLENGE_STATUS: u16 = 401;

/// One request and the agent's answers to its events.
pub(super) struct Exchange<'a> {
    agent: &'a Agent,
    endpoint: &'a str,
    /// Prints each step as it happens.
    is_verbose: bool,
    correlation_id: String,
    started: Instant,
    request_body_size: usize,
    response_body_size: usize,
    upstream_attempts: u32,
    steps: Vec<Step>,
}

/// Reason why a request ends early.
enum Stop {
    /// The agent decided against the request. Holds the status for the client.
    Decided(u16),
    /// A call or the output failed.
    Failed(anyhow::Error),
}

impl<E: Into<anyhow::Error>> From<E> for Stop {
    fn from(error: E) -> Self {
        Self::Failed(error.into())
    }
}

impl<'a> Exchange<'a> {
    /// Creates an exchange. Sends nothing yet.
    pub(super) fn new(agent: &'a Agent, endpoint: &'a str, is_verbose: bool) -> Self {
        Self {
            agent,
            endpoint,
            is_verbose,
            correlation_id: unique_id(),
            started: Instant::now(),
            request_body_size: 0,
            response_body_size: 0,
            upstream_attempts: 0,
            steps: Vec::new(),
        }
    }

    /// Sends all events, or those up to a decision against the request, and then the request
    /// complete event.
    pub(super) async fn run(mut self, request: &Request, body: Body) -> anyhow::Result<Vec<Step>> {
        self.started = Instant::now();
        let status = match self.request_and_response(request, body).await {
            Ok(()) => UPSTREAM_STATUS,
            Err(Stop::Decided(status)) => status,
            Err(Stop::Failed(error)) => return Err(error),
        };
        match self.complete(status).await {
            // The request is complete; a decision on that event has no effect.
            Ok(()) | Err(Stop::Decided(_)) => Ok(self.steps),
            Err(Stop::Failed(error)) => Err(error),
        }
    }

    async fn request_and_response(&mut self, request: &Request, body: Body) -> Result<(), Stop> {
        self.request_headers(request).await?;
        self.request_body(body).await?;
        self.response_headers().await?;
        self.response_body().await
    }

    async fn request_headers(&mut self, request: &Request) -> Result<(), Stop> {
        let id = self.correlation_id.clone();
        let timestamp = Timestamp::now();
        let event = RequestHeaders {
            metadata: Metadata {
                correlation_id: &id,
                request_id: &id,
                client_ip: "127.0.0.1",
                server_name: host(request),
                protocol: "HTTP/1.1",
                timestamp: &timestamp,
                ..Metadata::default()
            },
            method: &request.method,
            uri: &request.uri,
            headers: &request.headers[..],
        };
        self.send(EventType::RequestHeaders, &event).await
    }

    /// Sends the body. Reading it may block this thread, which is the main thread: the connection's
    /// tasks run on the runtime's worker threads.
    async fn request_body(&mut self, mut body: Body) -> Result<(), Stop> {
        let mut chunk_index = 0;
        while let Some(chunk) = body.next_chunk()? {
            self.request_body_size += chunk.data.len();
            let event = RequestBodyChunkEvent {
                correlation_id: self.correlation_id.clone(),
                data: chunk.data,
                is_last: chunk.is_last,
                total_size: body.total_size(),
                chunk_index,
                bytes_received: self.request_body_size,
            };
            self.send(EventType::RequestBodyChunk, &event).await?;
            chunk_index = chunk_index.saturating_add(1);
        }
        Ok(())
    }

    async fn response_headers(&mut self) -> Result<(), Stop> {
        self.upstream_attempts = 1;
        let id = self.correlation_id.clone();
        let event = ResponseHeaders {
            correlation_id: &id,
            status: UPSTREAM_STATUS,
            headers: &UPSTREAM_HEADERS[..],
        };
        self.send(EventType::ResponseHeaders, &event).await
    }

    async fn response_body(&mut self) -> Result<(), Stop> {
        let data = Bytes::from_static(UPSTREAM_BODY);
        self.response_body_size = data.len();
        let event = ResponseBodyChunkEvent::new(self.correlation_id.as_str(), data, 0, true)
            .with_total_size(UPSTREAM_BODY.len());
        self.send(EventType::ResponseBodyChunk, &event).await
    }

    async fn complete(&mut self, status: u16) -> Result<(), Stop> {
        let id = self.correlation_id.clone();
        let event = RequestComplete {
            correlation_id: &id,
            status,
            duration_ms: u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX),
            request_body_size: self.request_body_size,
            response_body_size: self.response_body_size,
            upstream_attempts: self.upstream_attempts,
            error: None,
        };
        self.send(EventType::RequestComplete, &event).await
    }

    /// Sends one event to the agent and records the answer as a step.
    async fn send<E: Event>(&mut self, kind: EventType, event: &E) -> Result<(), Stop> {
        let started = Instant::now();
        let response = self
            .agent
            .send(&self.correlation_id, event)
            .await
            .map_err(|error| self.failure(kind, &error))?;
        let stop = final_status(&response);
        let step = Step::new(kind, response, started.elapsed());
        if self.is_verbose {
            print_line(&step)?;
        }
        self.steps.push(step);
        stop.map_or(Ok(()), |status| Err(Stop::Decided(status)))
    }

    fn failure(&self, kind: EventType, error: &CallError) -> AgentFailure {
        let (event, cause) = (kind.as_str(), error.reason());
        AgentFailure::new(self.endpoint, format_args!("{event}: {cause}"))
    }
}

/// Returns the status for the client if this response ends the request.
fn final_status(response: &AgentResponse) -> Option<u16> {
    match response.decision {
        Decision::Allow => None,
        Decision::Block { status, .. } | Decision::Redirect { status, .. } => Some(status),
        Decision::Challenge { .. } => Some(CHALLENGE_STATUS),
    }
}

fn host(request: &Request) -> Option<&str> {
    let mut headers = request.headers.iter();
    let (_, value) = headers.find(|(name, _)| name.eq_ignore_ascii_case("host"))?;
    Some(value)
}

/// Returns an id that no other process uses at this time. Each process sends one request only.
fn unique_id() -> String {
    format!("send-{}-{}", std::process::id(), tollgate::events::now_ms())
}
