//! Sends events to an agent and converts its answers. Every method that sends ends here.

use crate::{
    AgentProtocolError, AgentResponse, BinaryRequestBodyChunkEvent, BinaryResponseBodyChunkEvent,
    GuardrailInspectEvent, RequestBodyChunkEvent, RequestCompleteEvent, RequestHeadersEvent,
    ResponseBodyChunkEvent, ResponseHeadersEvent, WebSocketFrameEvent,
};
use serde_json::{Map, Value};
use tollgate::events::Configure;
use tollgate::{Agent, CallError, Event, Exchange, RequestBodyChunk, ResponseBodyChunk};

/// Reason why an event was not answered.
#[derive(Debug)]
pub(super) enum NotAnswered {
    Call(CallError),
    /// The event cannot be sent.
    Invalid(AgentProtocolError),
}

impl From<NotAnswered> for AgentProtocolError {
    fn from(reason: NotAnswered) -> Self {
        match reason {
            NotAnswered::Call(error) => error.into(),
            NotAnswered::Invalid(error) => error,
        }
    }
}

impl From<CallError> for NotAnswered {
    fn from(error: CallError) -> Self {
        Self::Call(error)
    }
}

/// An event that can be sent.
pub(super) trait Sendable {
    /// Sends the event to an agent and waits for the answer.
    fn send_to(
        &self,
        agent: &Agent,
        correlation_id: &str,
    ) -> impl Future<Output = Result<AgentResponse, NotAnswered>> + Send;
}

/// Implements [`Sendable`] by an expression for the event as tollgate sends it.
macro_rules! sendable {
    ($($event:ty: |$this:ident| $sent:expr;)*) => {$(
        impl Sendable for $event {
            async fn send_to(
                &self,
                agent: &Agent,
                correlation_id: &str,
            ) -> Result<AgentResponse, NotAnswered> {
                let $this = self;
                send(agent, correlation_id, $sent).await
            }
        }
    )*};
}

sendable! {
    RequestHeadersEvent: |event| event;
    ResponseHeadersEvent: |event| event;
    RequestCompleteEvent: |event| event;
    GuardrailInspectEvent: |event| event;
    RequestBodyChunkEvent: |event| &RequestBodyChunk(event.borrowed());
    ResponseBodyChunkEvent: |event| &ResponseBodyChunk(event.borrowed());
    BinaryRequestBodyChunkEvent: |event| &RequestBodyChunk(event.borrowed());
    BinaryResponseBodyChunkEvent: |event| &ResponseBodyChunk(event.borrowed());
    WebSocketFrameEvent: |event| &event.borrowed().ok_or_else(|| {
        let fault = format!("unknown opcode {:?}", event.opcode);
        NotAnswered::Invalid(AgentProtocolError::InvalidMessage(fault))
    })?;
}

/// Sends settings once, on one connection.
///
/// Agents read `config` and `config_version` from the object. A value that is not an object is sent
/// as the `config` of one.
pub(super) async fn configure(
    agent: &Agent,
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
    Ok(send(agent, correlation_id, &event).await?)
}

/// Sends the headers of a request on the connection of an exchange.
pub(super) async fn send_in(
    exchange: &Exchange,
    correlation_id: &str,
    event: &RequestHeadersEvent,
) -> Result<AgentResponse, AgentProtocolError> {
    Ok(exchange.send_by_id(correlation_id, event).await?.into())
}

async fn send<E: Event>(
    agent: &Agent,
    correlation_id: &str,
    event: &E,
) -> Result<AgentResponse, NotAnswered> {
    Ok(agent.send(correlation_id, event).await?.into())
}
