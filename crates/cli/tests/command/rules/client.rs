//! A proxy that asks `tollgate agent --rules` about single events.

use crate::support::{Agent, TestDir};
use bytes::Bytes;
use tollgate::{
    AgentConfig, AgentPool, AgentResponse, BodyChunk, CallError, Event, EventType, Metadata,
    RequestBodyChunk, RequestHeaders, ResponseBodyChunk, ResponseHeaders,
};

/// An agent with rules, and a proxy that is connected to it.
pub(super) struct Client {
    agent: tollgate::Agent,
    _pool: AgentPool,
    _process: Agent,
    _dir: TestDir,
}

/// The head of a request. The defaults are those of a plain GET.
#[derive(Clone, Copy)]
pub(super) struct Head<'a> {
    pub(super) method: &'a str,
    pub(super) uri: &'a str,
    pub(super) client_ip: &'a str,
    pub(super) headers: &'a [(&'a str, &'a str)],
}

impl Default for Head<'_> {
    fn default() -> Self {
        Self {
            method: "GET",
            uri: "/",
            client_ip: "192.0.2.7",
            headers: &[],
        }
    }
}

impl<'a> Head<'a> {
    pub(super) fn of(uri: &'a str) -> Self {
        Self {
            uri,
            ..Self::default()
        }
    }
}

/// A kind of body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Side {
    Request,
    Response,
}

impl Side {
    pub(super) const BOTH: [Self; 2] = [Self::Request, Self::Response];

    /// Returns the phase of the body in a file of rules.
    pub(super) const fn on(self) -> &'static str {
        match self {
            Self::Request => "request_body",
            Self::Response => "response_body",
        }
    }
}

impl Client {
    /// Starts an agent on a Unix socket with this file of rules, and connects to it.
    pub(super) async fn new(rules: &str) -> Self {
        Self::with_options(rules, &[]).await
    }

    pub(super) async fn with_options(rules: &str, options: &[&str]) -> Self {
        let dir = TestDir::new();
        let socket = dir.path("agent.sock");
        Self::connect(dir, &socket, rules, options).await
    }

    /// Starts an agent at this endpoint.
    #[cfg(feature = "grpc")]
    pub(super) async fn at(endpoint: &str, rules: &str) -> Self {
        Self::connect(TestDir::new(), endpoint, rules, &[]).await
    }

    async fn connect(dir: TestDir, listen: &str, rules: &str, options: &[&str]) -> Self {
        let file = dir.file("rules.toml", rules);
        let process = Agent::start(listen, &[&["--rules", &file], options].concat());
        let pool = AgentPool::new();
        let config = AgentConfig::new("rules", process.endpoint()).require_connection();
        Self {
            agent: pool.add(config).await.expect("a connection"),
            _pool: pool,
            _process: process,
            _dir: dir,
        }
    }

    /// Returns the events that the agent subscribes to.
    pub(super) fn events(&self) -> Vec<EventType> {
        let capabilities = self.agent.capabilities().expect("a connection");
        capabilities.supported_events
    }

    pub(super) async fn send(&self, id: &str, event: &impl Event) -> AgentResponse {
        self.try_send(id, event).await.expect("an answer")
    }

    pub(super) async fn try_send(
        &self,
        id: &str,
        event: &impl Event,
    ) -> Result<AgentResponse, CallError> {
        self.agent.send(id, event).await
    }

    pub(super) async fn request(&self, id: &str, head: Head<'_>) -> AgentResponse {
        let event = RequestHeaders {
            metadata: Metadata {
                correlation_id: id,
                request_id: id,
                client_ip: head.client_ip,
                ..Metadata::default()
            },
            method: head.method,
            uri: head.uri,
            headers: head.headers,
        };
        self.send(id, &event).await
    }

    pub(super) async fn response(&self, id: &str, headers: &[(&str, &str)]) -> AgentResponse {
        let event = ResponseHeaders {
            correlation_id: id,
            status: 200,
            headers,
        };
        self.send(id, &event).await
    }

    /// Sends one chunk.
    pub(super) async fn chunk(
        &self,
        side: Side,
        id: &str,
        index: u32,
        data: &str,
        is_last: bool,
    ) -> AgentResponse {
        let chunk = BodyChunk::new(id, Bytes::copy_from_slice(data.as_bytes()), index, is_last);
        match side {
            Side::Request => self.send(id, &RequestBodyChunk(chunk)).await,
            Side::Response => self.send(id, &ResponseBodyChunk(chunk)).await,
        }
    }

    /// Sends a body in these chunks and returns the answers up to the first denial.
    pub(super) async fn body(&self, side: Side, id: &str, chunks: &[&str]) -> Vec<AgentResponse> {
        let mut answers = Vec::new();
        for (index, data) in chunks.iter().enumerate() {
            let is_last = index + 1 == chunks.len();
            let index = u32::try_from(index).expect("few chunks");
            let answer = self.chunk(side, id, index, data, is_last).await;
            let is_denied = answer.decision.as_str() != "allow";
            answers.push(answer);
            if is_denied {
                break;
            }
        }
        answers
    }
}
