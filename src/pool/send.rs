//! Putting events to agents. Every method ends in the one path of [`AgentPool::send`].

use super::AgentPool;
use super::ask::{Inquiry, outcome_of, timings_of};
use crate::connection::TimeLimit;
use crate::error::AgentProtocolError;
use crate::metrics::CallTimings;
use crate::protocol::AgentResponse;
use crate::protocol::events::{
    BinaryRequestBodyChunkEvent, BinaryResponseBodyChunkEvent, Configure, GuardrailInspectEvent,
    RequestBodyChunkEvent, RequestCompleteEvent, RequestHeadersEvent, ResponseBodyChunkEvent,
    ResponseHeadersEvent, WebSocketFrameEvent,
};
use crate::wire::Event;
use serde_json::{Map, Value};
use std::time::Duration;

impl AgentPool {
    /// Puts any event, owned or borrowed, to an agent and waits for its answer.
    ///
    /// `correlation_id` joins the events of one HTTP request and replaces the event's own. Towards
    /// peers that know no other way of matching answers, at most one event of an exchange can be
    /// unanswered at a time.
    ///
    /// Request headers bind their exchange to a connection: the events that follow under the same correlation
    /// id take that one, until [`AgentPool::clear_correlation_affinity`] or a completed request
    /// ([`AgentPool::send_request_complete`]) ends the exchange, or
    /// [`correlation_affinity_ttl`](super::AgentPoolConfig::correlation_affinity_ttl) passes without an event.
    /// [`AgentPool::exchange`] does the same without a look-up.
    ///
    /// Dropping the future gives the call up; an answer that comes later is counted and thrown away.
    ///
    /// # Errors
    ///
    /// * [`UnknownAgent`](AgentProtocolError::UnknownAgent),
    ///   [`Unavailable`](AgentProtocolError::Unavailable) and
    ///   [`CircuitOpen`](AgentProtocolError::CircuitOpen) before anything is sent;
    /// * [`QueueFull`](AgentProtocolError::QueueFull) and
    ///   [`QueueTimeout`](AgentProtocolError::QueueTimeout) if no slot is free;
    /// * [`FlowControlPaused`](AgentProtocolError::FlowControlPaused) if the agent paused every
    ///   connection that could be used (see [`FlowControlMode`](super::FlowControlMode));
    /// * [`CorrelationBusy`](AgentProtocolError::CorrelationBusy) if an earlier event of the exchange is
    ///   unanswered everywhere;
    /// * [`MessageTooLarge`](AgentProtocolError::MessageTooLarge) if the event fits no frame, or its body is
    ///   larger than the agent takes;
    /// * [`Timeout`](AgentProtocolError::Timeout) after
    ///   [`AgentPoolConfig::request_timeout`](super::AgentPoolConfig::request_timeout) or the time for this
    ///   kind of event;
    /// * [`ConnectionClosed`](AgentProtocolError::ConnectionClosed) at once when the connection ends, and for
    ///   every later event of an exchange that was bound to it;
    /// * [`InvalidMessage`](AgentProtocolError::InvalidMessage) if the answer does not decode;
    /// * [`Cancelled`](AgentProtocolError::Cancelled) by [`AgentPool::cancel_request`].
    pub async fn send<E: Event>(
        &self,
        agent_id: &str,
        correlation_id: &str,
        event: &E,
    ) -> Result<AgentResponse, AgentProtocolError> {
        let timeout = self.inner.config.timeout(E::EVENT_TYPE);
        let inquiry = Inquiry {
            correlation_id,
            kind: E::EVENT_TYPE,
            limit: TimeLimit::configured(timeout),
        };
        outcome_of(self.inner.ask(agent_id, inquiry, event).await)
    }

    /// The same, and says where the time went; of an event that was allowed without asking the agent it does not.
    /// Errors as for [`AgentPool::send`].
    pub async fn send_timed<E: Event>(
        &self,
        agent_id: &str,
        correlation_id: &str,
        event: &E,
    ) -> Result<(AgentResponse, Option<CallTimings>), AgentProtocolError> {
        let timeout = self.inner.config.timeout(E::EVENT_TYPE);
        let inquiry = Inquiry {
            correlation_id,
            kind: E::EVENT_TYPE,
            limit: TimeLimit::configured(timeout).timed(),
        };
        let asked = self.inner.ask(agent_id, inquiry, event).await;
        let timings = timings_of(&asked);
        Ok((outcome_of(asked)?, timings))
    }

    /// The same as [`AgentPool::send`] with a time of its own for this call, which is not stretched for an agent that reports that
    /// it is degraded. Errors as for [`AgentPool::send`].
    pub async fn send_within<E: Event>(
        &self,
        agent_id: &str,
        correlation_id: &str,
        event: &E,
        timeout: Duration,
    ) -> Result<AgentResponse, AgentProtocolError> {
        let inquiry = Inquiry {
            correlation_id,
            kind: E::EVENT_TYPE,
            limit: TimeLimit::firm(timeout),
        };
        outcome_of(self.inner.ask(agent_id, inquiry, event).await)
    }

    /// Puts the head of a request to an agent. Errors as for [`AgentPool::send`].
    pub async fn send_request_headers(
        &self,
        agent_id: &str,
        correlation_id: &str,
        event: &RequestHeadersEvent,
    ) -> Result<AgentResponse, AgentProtocolError> {
        self.send(agent_id, correlation_id, event).await
    }

    /// Puts a piece of a request body to an agent. Errors as for [`AgentPool::send`].
    pub async fn send_request_body_chunk(
        &self,
        agent_id: &str,
        correlation_id: &str,
        event: &RequestBodyChunkEvent,
    ) -> Result<AgentResponse, AgentProtocolError> {
        self.send(agent_id, correlation_id, event).await
    }

    /// The same under the event's own correlation id.
    pub async fn send_request_body_chunk_binary(
        &self,
        agent_id: &str,
        event: &BinaryRequestBodyChunkEvent,
    ) -> Result<AgentResponse, AgentProtocolError> {
        self.send(agent_id, &event.correlation_id, event).await
    }

    /// Puts the head of a response to an agent. Errors as for [`AgentPool::send`].
    pub async fn send_response_headers(
        &self,
        agent_id: &str,
        correlation_id: &str,
        event: &ResponseHeadersEvent,
    ) -> Result<AgentResponse, AgentProtocolError> {
        self.send(agent_id, correlation_id, event).await
    }

    /// Puts a piece of a response body to an agent. Errors as for [`AgentPool::send`].
    pub async fn send_response_body_chunk(
        &self,
        agent_id: &str,
        correlation_id: &str,
        event: &ResponseBodyChunkEvent,
    ) -> Result<AgentResponse, AgentProtocolError> {
        self.send(agent_id, correlation_id, event).await
    }

    /// The same under the event's own correlation id.
    pub async fn send_response_body_chunk_binary(
        &self,
        agent_id: &str,
        event: &BinaryResponseBodyChunkEvent,
    ) -> Result<AgentResponse, AgentProtocolError> {
        self.send(agent_id, &event.correlation_id, event).await
    }

    /// Tells an agent that a request is over, which ends its exchange. Errors as for [`AgentPool::send`].
    pub async fn send_request_complete(
        &self,
        agent_id: &str,
        correlation_id: &str,
        event: &RequestCompleteEvent,
    ) -> Result<AgentResponse, AgentProtocolError> {
        self.send(agent_id, correlation_id, event).await
    }

    /// Puts a websocket frame to an agent. Errors as for [`AgentPool::send`].
    pub async fn send_websocket_frame(
        &self,
        agent_id: &str,
        correlation_id: &str,
        event: &WebSocketFrameEvent,
    ) -> Result<AgentResponse, AgentProtocolError> {
        self.send(agent_id, correlation_id, event).await
    }

    /// Has an agent inspect text. Errors as for [`AgentPool::send`].
    pub async fn send_guardrail_inspect(
        &self,
        agent_id: &str,
        correlation_id: &str,
        event: &GuardrailInspectEvent,
    ) -> Result<AgentResponse, AgentProtocolError> {
        self.send(agent_id, correlation_id, event).await
    }

    /// Gives an agent settings; agents read `config` and `config_version` from the object. A value that
    /// is no object is sent as the `config` of one. Errors as for [`AgentPool::send`].
    pub async fn send_configure(
        &self,
        agent_id: &str,
        correlation_id: &str,
        settings: &Value,
    ) -> Result<AgentResponse, AgentProtocolError> {
        let settings = match settings {
            Value::Object(settings) => settings.clone(),
            other => Map::from_iter([("config".to_owned(), other.clone())]),
        };
        let event = Configure {
            correlation_id,
            settings,
        };
        self.send(agent_id, correlation_id, &event).await
    }
}
