use crate::protocol::events::{
    Configure, GuardrailInspectEvent, RequestBodyChunkEvent, RequestCompleteEvent,
    RequestHeadersEvent, ResponseBodyChunkEvent, ResponseHeadersEvent, WebSocketFrameEvent,
};
use crate::wire::events::encode_event;
use crate::wire::{Address, Dialect, Encoding, Event, IncomingEvent, StreamId};
use serde_json::{Map, Value};

/// An event that was read, to be compared and written.
#[derive(Debug, PartialEq)]
pub(super) enum OwnedEvent {
    RequestHeaders(RequestHeadersEvent),
    RequestBodyChunk(RequestBodyChunkEvent),
    ResponseHeaders(ResponseHeadersEvent),
    ResponseBodyChunk(ResponseBodyChunkEvent),
    RequestComplete(RequestCompleteEvent),
    WebSocketFrame(WebSocketFrameEvent),
    GuardrailInspect(GuardrailInspectEvent),
    Configure(String, Map<String, Value>),
}

impl OwnedEvent {
    pub(super) fn of(event: &IncomingEvent<'_>) -> Self {
        match event {
            IncomingEvent::RequestHeaders(event) => Self::RequestHeaders(event.to_event()),
            IncomingEvent::RequestBodyChunk(event) => {
                Self::RequestBodyChunk(event.to_request_event())
            }
            IncomingEvent::ResponseHeaders(event) => Self::ResponseHeaders(event.to_event()),
            IncomingEvent::ResponseBodyChunk(event) => {
                Self::ResponseBodyChunk(event.to_response_event())
            }
            IncomingEvent::RequestComplete(event) => Self::RequestComplete(event.to_event()),
            IncomingEvent::WebSocketFrame(event) => Self::WebSocketFrame(event.to_event()),
            IncomingEvent::GuardrailInspect(event) => Self::GuardrailInspect(event.to_event()),
            IncomingEvent::Configure(event) => {
                Self::Configure(event.correlation_id.to_owned(), event.settings.clone())
            }
        }
    }

    /// The event as tollgate writes it.
    pub(super) fn payload(&self, encoding: Encoding) -> Vec<u8> {
        match self {
            Self::RequestHeaders(event) => payload(event, &event.metadata.correlation_id, encoding),
            Self::RequestBodyChunk(event) => payload(event, &event.correlation_id, encoding),
            Self::ResponseHeaders(event) => payload(event, &event.correlation_id, encoding),
            Self::ResponseBodyChunk(event) => payload(event, &event.correlation_id, encoding),
            Self::RequestComplete(event) => payload(event, &event.correlation_id, encoding),
            Self::WebSocketFrame(event) => payload(event, &event.correlation_id, encoding),
            Self::GuardrailInspect(event) => payload(event, &event.correlation_id, encoding),
            Self::Configure(correlation_id, settings) => {
                let event = Configure {
                    correlation_id,
                    settings: settings.clone(),
                };
                payload(&event, correlation_id, encoding)
            }
        }
    }
}

fn payload<E: Event>(event: &E, correlation_id: &str, encoding: Encoding) -> Vec<u8> {
    let address = Address {
        correlation_id,
        stream: StreamId(0),
    };
    let mut frame = Vec::new();
    encode_event(event, address, Dialect::published(encoding), &mut frame).unwrap();
    frame.split_off(5)
}
