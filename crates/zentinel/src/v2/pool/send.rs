//! Sends events to agents by name. Every method here ends in the same call.

use super::AgentPool;
use crate::v2::send::{NotAnswered, Sendable, configure};
use crate::{
    AgentProtocolError, AgentResponse, BinaryRequestBodyChunkEvent, BinaryResponseBodyChunkEvent,
    GuardrailInspectEvent, RequestBodyChunkEvent, RequestCompleteEvent, RequestHeadersEvent,
    ResponseBodyChunkEvent, ResponseHeadersEvent, WebSocketFrameEvent,
};
use serde_json::Value;
use tollgate::CallError;

/// Declares a method for each kind of event.
macro_rules! send_methods {
    ($($(#[$doc:meta])* $name:ident: $event:ty;)*) => {
        impl AgentPool {
            $(
                $(#[$doc])*
                ///
                /// # Errors
                ///
                /// * [`InvalidMessage`](AgentProtocolError::InvalidMessage) if no agent has this
                ///   name, or the answer cannot be decoded
                /// * [`ConnectionFailed`](AgentProtocolError::ConnectionFailed) if the agent is not
                ///   connected, or takes no more calls
                /// * [`ConnectionClosed`](AgentProtocolError::ConnectionClosed) if the connection
                ///   ends before the answer arrives
                /// * [`Timeout`](AgentProtocolError::Timeout)
                /// * [`FlowControlPaused`](AgentProtocolError::FlowControlPaused)
                /// * [`MessageTooLarge`](AgentProtocolError::MessageTooLarge)
                pub async fn $name(
                    &self,
                    agent_id: &str,
                    correlation_id: &str,
                    event: &$event,
                ) -> Result<AgentResponse, AgentProtocolError> {
                    self.send(agent_id, correlation_id, event).await
                }
            )*
        }
    };
}

send_methods! {
    /// Sends the headers of a request, and pins the correlation id to a connection: see
    /// [`tollgate::Agent::send`].
    ///
    /// Send [`AgentPool::send_request_complete`] or call
    /// [`AgentPool::clear_correlation_affinity`] when the request is over.
    send_request_headers: RequestHeadersEvent;
    /// Sends a chunk of a request body.
    send_request_body_chunk: RequestBodyChunkEvent;
    /// Sends the headers of a response.
    send_response_headers: ResponseHeadersEvent;
    /// Sends a chunk of a response body.
    send_response_body_chunk: ResponseBodyChunkEvent;
    /// Tells an agent that a request is over, and unpins its correlation id from this agent.
    send_request_complete: RequestCompleteEvent;
    /// Sends a WebSocket frame.
    send_websocket_frame: WebSocketFrameEvent;
    /// Sends text that the agent is to inspect. Fails if the agent does not declare that it
    /// inspects text.
    send_guardrail_inspect: GuardrailInspectEvent;
}

impl AgentPool {
    /// Sends a chunk of a request body under the event's own correlation id.
    ///
    /// # Errors
    ///
    /// As for [`AgentPool::send_request_body_chunk`].
    pub async fn send_request_body_chunk_binary(
        &self,
        agent_id: &str,
        event: &BinaryRequestBodyChunkEvent,
    ) -> Result<AgentResponse, AgentProtocolError> {
        self.send(agent_id, &event.correlation_id, event).await
    }

    /// Sends a chunk of a response body under the event's own correlation id.
    ///
    /// # Errors
    ///
    /// As for [`AgentPool::send_response_body_chunk`].
    pub async fn send_response_body_chunk_binary(
        &self,
        agent_id: &str,
        event: &BinaryResponseBodyChunkEvent,
    ) -> Result<AgentResponse, AgentProtocolError> {
        self.send(agent_id, &event.correlation_id, event).await
    }

    /// Sends settings to an agent once, on one connection.
    ///
    /// Agents read `config` and `config_version` from the object. A value that is not an object is
    /// sent as the `config` of one. For settings that every connection gets, use
    /// [`AgentPool::add_agent_with_config`] or [`AgentPool::configure_agent`].
    ///
    /// # Errors
    ///
    /// As for [`AgentPool::send_request_headers`].
    pub async fn send_configure(
        &self,
        agent_id: &str,
        correlation_id: &str,
        settings: &Value,
    ) -> Result<AgentResponse, AgentProtocolError> {
        configure(&self.agent(agent_id)?, correlation_id, settings).await
    }

    async fn send<E: Sendable>(
        &self,
        agent_id: &str,
        correlation_id: &str,
        event: &E,
    ) -> Result<AgentResponse, AgentProtocolError> {
        loop {
            let agent = self.agent(agent_id)?;
            match event.send_to(&agent, correlation_id).await {
                // The agent was replaced or removed after the look-up, and nothing was sent.
                Err(NotAnswered::Call(CallError::Replaced { .. } | CallError::Removed { .. })) => {}
                answered => return Ok(answered?),
            }
        }
    }
}
