//! A client of either transport.

use crate::v2::{
    AgentCapabilities, AgentClientV2, AgentClientV2Uds, CancelReason, ReverseConnectionClient,
};
use crate::{
    AgentProtocolError, AgentResponse, GuardrailInspectEvent, RequestBodyChunkEvent,
    RequestHeadersEvent, ResponseBodyChunkEvent, ResponseHeadersEvent, WebSocketFrameEvent,
};

/// A client of an agent, whatever the transport.
#[derive(Debug)]
#[allow(
    clippy::large_enum_variant,
    reason = "the variants are those of the published crate"
)]
pub enum V2Transport {
    /// Over gRPC.
    Grpc(AgentClientV2),
    /// On a Unix socket.
    Uds(AgentClientV2Uds),
    /// On connections that the agent has opened.
    Reverse(ReverseConnectionClient),
}

/// Declares methods that every client has.
macro_rules! of_all_clients {
    ($(
        $(#[$doc:meta])*
        $name:ident($($argument:ident: $type:ty),*) -> $result:ty;
    )*) => {
        impl V2Transport {
            $(
                $(#[$doc])*
                pub async fn $name(&self, $($argument: $type),*) -> $result {
                    match self {
                        Self::Grpc(client) => client.$name($($argument),*).await,
                        Self::Uds(client) => client.$name($($argument),*).await,
                        Self::Reverse(client) => client.$name($($argument),*).await,
                    }
                }
            )*
        }
    };
}

/// Result of a call.
type Answer = Result<AgentResponse, AgentProtocolError>;

of_all_clients! {
    /// Returns whether the client has a connection.
    is_connected() -> bool;
    /// Returns whether a request would be sent now.
    can_accept_requests() -> bool;
    /// Returns the capabilities that the agent announced.
    capabilities() -> Option<AgentCapabilities>;
    /// Sends the headers of a request. Errors are those of the client, as for all methods here.
    send_request_headers(correlation_id: &str, event: &RequestHeadersEvent) -> Answer;
    /// Sends a chunk of a request body.
    send_request_body_chunk(correlation_id: &str, event: &RequestBodyChunkEvent) -> Answer;
    /// Sends the headers of a response.
    send_response_headers(correlation_id: &str, event: &ResponseHeadersEvent) -> Answer;
    /// Sends a chunk of a response body.
    send_response_body_chunk(correlation_id: &str, event: &ResponseBodyChunkEvent) -> Answer;
    /// Sends a WebSocket frame.
    send_websocket_frame(correlation_id: &str, event: &WebSocketFrameEvent) -> Answer;
    /// Sends text that the agent is to inspect.
    send_guardrail_inspect(correlation_id: &str, event: &GuardrailInspectEvent) -> Answer;
    /// Tells the agent to abandon a request, and fails its pending call, if there is one.
    cancel_request(correlation_id: &str, reason: CancelReason) -> Result<(), AgentProtocolError>;
    /// Cancels every pending call, and returns their number.
    cancel_all(reason: CancelReason) -> Result<usize, AgentProtocolError>;
    /// Closes the connection once the pending calls are answered.
    close() -> Result<(), AgentProtocolError>;
}

impl V2Transport {
    /// Returns the name of the agent.
    pub fn agent_id(&self) -> &str {
        match self {
            Self::Grpc(client) => client.agent_id(),
            Self::Uds(client) => client.agent_id(),
            Self::Reverse(client) => client.agent_id(),
        }
    }
}
