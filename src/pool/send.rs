//! Sends events that are known by their correlation id. Every method here ends in the same path.

use super::AgentPool;
use super::call::{CallParams, take_answer, timings_of};
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
    /// Sends any event, owned or borrowed, to an agent and waits for its answer.
    ///
    /// `correlation_id` joins the events of one HTTP request and replaces the event's own. If the
    /// agent can match answers only by correlation id, at most one event of an exchange can be
    /// unanswered at a time.
    ///
    /// # Pinned exchanges
    ///
    /// Request headers pin their correlation id to a connection: the events that follow under the
    /// same id go over that connection. A pin costs about one allocation and an entry in a map of
    /// at most [`max_correlation_affinities`](super::AgentPoolConfig::max_correlation_affinities)
    /// entries. It is kept until [`AgentPool::send_request_complete`] or
    /// [`AgentPool::clear_correlation_affinity`] removes it, or
    /// [`correlation_affinity_ttl`](super::AgentPoolConfig::correlation_affinity_ttl) (5 minutes by
    /// default) passes without an event. So call one of the two at the end of every request. While
    /// the map is full, further exchanges are not pinned, and their events may go to any
    /// connection.
    ///
    /// [`AgentPool::exchange`] needs no pin: an [`Exchange`](super::Exchange) holds its connection
    /// without an allocation or a look-up.
    ///
    /// # Cancellation
    ///
    /// Dropping the future gives the call up. An answer that arrives later is counted and
    /// discarded.
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
    /// * [`CorrelationBusy`](AgentProtocolError::CorrelationBusy) if an earlier event of the
    ///   exchange is unanswered on every connection that could be used;
    /// * [`MessageTooLarge`](AgentProtocolError::MessageTooLarge) if the event does not fit into a
    ///   frame, or its body is larger than the agent accepts;
    /// * [`Timeout`](AgentProtocolError::Timeout) after
    ///   [`AgentPoolConfig::request_timeout`](super::AgentPoolConfig::request_timeout) or the
    ///   timeout for this kind of event;
    /// * [`ConnectionClosed`](AgentProtocolError::ConnectionClosed) at once when the connection
    ///   closes, and for every later event of an exchange that was pinned to it;
    /// * [`InvalidMessage`](AgentProtocolError::InvalidMessage) if the answer cannot be decoded;
    /// * [`Cancelled`](AgentProtocolError::Cancelled) by [`AgentPool::cancel_request`].
    pub async fn send<E: Event>(
        &self,
        agent_id: &str,
        correlation_id: &str,
        event: &E,
    ) -> Result<AgentResponse, AgentProtocolError> {
        let timeout = self.inner.config.timeout(E::EVENT_TYPE);
        let params = CallParams {
            correlation_id,
            kind: E::EVENT_TYPE,
            limit: TimeLimit::configured(timeout),
        };
        take_answer(self.inner.send_event(agent_id, params, event).await)
    }

    /// Like [`AgentPool::send`], and returns a timing breakdown: `None` if the event was allowed
    /// without asking the agent.
    ///
    /// # Errors
    ///
    /// As for [`AgentPool::send`].
    pub async fn send_timed<E: Event>(
        &self,
        agent_id: &str,
        correlation_id: &str,
        event: &E,
    ) -> Result<(AgentResponse, Option<CallTimings>), AgentProtocolError> {
        let timeout = self.inner.config.timeout(E::EVENT_TYPE);
        let params = CallParams {
            correlation_id,
            kind: E::EVENT_TYPE,
            limit: TimeLimit::configured(timeout).timed(),
        };
        let answered = self.inner.send_event(agent_id, params, event).await;
        let timings = timings_of(&answered);
        Ok((take_answer(answered)?, timings))
    }

    /// Like [`AgentPool::send`] with an explicit timeout, which is not extended for a degraded
    /// agent.
    ///
    /// # Errors
    ///
    /// As for [`AgentPool::send`].
    pub async fn send_within<E: Event>(
        &self,
        agent_id: &str,
        correlation_id: &str,
        event: &E,
        timeout: Duration,
    ) -> Result<AgentResponse, AgentProtocolError> {
        let params = CallParams {
            correlation_id,
            kind: E::EVENT_TYPE,
            limit: TimeLimit::fixed(timeout),
        };
        take_answer(self.inner.send_event(agent_id, params, event).await)
    }

    /// Sends the headers of a request, and pins the correlation id to a connection: see
    /// [`AgentPool::send`].
    ///
    /// # Errors
    ///
    /// As for [`AgentPool::send`].
    pub async fn send_request_headers(
        &self,
        agent_id: &str,
        correlation_id: &str,
        event: &RequestHeadersEvent,
    ) -> Result<AgentResponse, AgentProtocolError> {
        self.send(agent_id, correlation_id, event).await
    }

    /// Sends a chunk of a request body.
    ///
    /// # Errors
    ///
    /// As for [`AgentPool::send`].
    pub async fn send_request_body_chunk(
        &self,
        agent_id: &str,
        correlation_id: &str,
        event: &RequestBodyChunkEvent,
    ) -> Result<AgentResponse, AgentProtocolError> {
        self.send(agent_id, correlation_id, event).await
    }

    /// Sends a chunk of a request body under the event's own correlation id.
    ///
    /// # Errors
    ///
    /// As for [`AgentPool::send`].
    pub async fn send_request_body_chunk_binary(
        &self,
        agent_id: &str,
        event: &BinaryRequestBodyChunkEvent,
    ) -> Result<AgentResponse, AgentProtocolError> {
        self.send(agent_id, &event.correlation_id, event).await
    }

    /// Sends the headers of a response.
    ///
    /// # Errors
    ///
    /// As for [`AgentPool::send`].
    pub async fn send_response_headers(
        &self,
        agent_id: &str,
        correlation_id: &str,
        event: &ResponseHeadersEvent,
    ) -> Result<AgentResponse, AgentProtocolError> {
        self.send(agent_id, correlation_id, event).await
    }

    /// Sends a chunk of a response body.
    ///
    /// # Errors
    ///
    /// As for [`AgentPool::send`].
    pub async fn send_response_body_chunk(
        &self,
        agent_id: &str,
        correlation_id: &str,
        event: &ResponseBodyChunkEvent,
    ) -> Result<AgentResponse, AgentProtocolError> {
        self.send(agent_id, correlation_id, event).await
    }

    /// Sends a chunk of a response body under the event's own correlation id.
    ///
    /// # Errors
    ///
    /// As for [`AgentPool::send`].
    pub async fn send_response_body_chunk_binary(
        &self,
        agent_id: &str,
        event: &BinaryResponseBodyChunkEvent,
    ) -> Result<AgentResponse, AgentProtocolError> {
        self.send(agent_id, &event.correlation_id, event).await
    }

    /// Tells an agent that a request is over, and unpins its correlation id from this agent.
    ///
    /// # Errors
    ///
    /// As for [`AgentPool::send`].
    pub async fn send_request_complete(
        &self,
        agent_id: &str,
        correlation_id: &str,
        event: &RequestCompleteEvent,
    ) -> Result<AgentResponse, AgentProtocolError> {
        self.send(agent_id, correlation_id, event).await
    }

    /// Sends a WebSocket frame.
    ///
    /// # Errors
    ///
    /// As for [`AgentPool::send`].
    pub async fn send_websocket_frame(
        &self,
        agent_id: &str,
        correlation_id: &str,
        event: &WebSocketFrameEvent,
    ) -> Result<AgentResponse, AgentProtocolError> {
        self.send(agent_id, correlation_id, event).await
    }

    /// Sends text that the agent is to inspect.
    ///
    /// # Errors
    ///
    /// As for [`AgentPool::send`].
    pub async fn send_guardrail_inspect(
        &self,
        agent_id: &str,
        correlation_id: &str,
        event: &GuardrailInspectEvent,
    ) -> Result<AgentResponse, AgentProtocolError> {
        self.send(agent_id, correlation_id, event).await
    }

    /// Sends settings to an agent once, on one connection.
    ///
    /// Agents read `config` and `config_version` from the object. A value that is not an object is
    /// sent as the `config` of one. For settings that every connection gets, use
    /// [`AgentPool::configure_agent`].
    ///
    /// # Errors
    ///
    /// As for [`AgentPool::send`].
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
