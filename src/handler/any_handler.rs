//! Handlers whose type is not known, which answer without an allocation.

use super::agent_handler::AgentHandler;
use crate::protocol::{AgentCapabilities, AgentResponse, CancelReason};
use crate::wire::{IncomingEvent, RequestHeadersView};
use stackfuture::StackFuture;

/// Bytes of the future of a handler that need no allocation. Twice the largest event, which an
/// `async fn` usually holds twice, and what a handler that does not wait needs beside it.
const INLINE_LEN: usize = 1024;

/// Answer of a handler to one event.
pub(crate) type HandlerFuture<'a> = StackFuture<'a, AgentResponse, INLINE_LEN>;

/// [`AgentHandler`] as a trait object that returns futures by value. It is implemented for all
/// handlers.
pub(crate) trait AnyHandler: Send + Sync + 'static {
    fn capabilities(&self) -> AgentCapabilities;

    /// Calls the method for an event. Allocates only if its future is larger than usual.
    fn answer<'a>(&'a self, event: IncomingEvent<'a>) -> HandlerFuture<'a>;

    fn on_request_recalled(&self, event: RequestHeadersView<'_>);

    fn on_cancel(&self, correlation_id: &str, reason: CancelReason);

    fn on_connection_closed(&self);
}

impl<H: AgentHandler> AnyHandler for H {
    fn capabilities(&self) -> AgentCapabilities {
        AgentHandler::capabilities(self)
    }

    fn answer<'a>(&'a self, event: IncomingEvent<'a>) -> HandlerFuture<'a> {
        macro_rules! call {
            ($($event:ident by $method:ident),*; $($other:tt)*) => {
                match event {
                    $(IncomingEvent::$event(event) => {
                        StackFuture::from_or_box(AgentHandler::$method(self, event))
                    })*
                    $($other)*
                }
            };
        }
        call! {
            RequestHeaders by on_request_headers,
            RequestBodyChunk by on_request_body_chunk,
            ResponseHeaders by on_response_headers,
            ResponseBodyChunk by on_response_body_chunk,
            RequestComplete by on_request_complete,
            WebSocketFrame by on_websocket_frame,
            GuardrailInspect by on_guardrail_inspect;
            IncomingEvent::Configure(event) => StackFuture::from_or_box(async {
                configured(self.on_configure(event).await)
            }),
        }
    }

    fn on_request_recalled(&self, event: RequestHeadersView<'_>) {
        AgentHandler::on_request_recalled(self, event);
    }

    fn on_cancel(&self, correlation_id: &str, reason: CancelReason) {
        AgentHandler::on_cancel(self, correlation_id, reason);
    }

    fn on_connection_closed(&self) {
        AgentHandler::on_connection_closed(self);
    }
}

/// Returns the answer to settings that the handler has applied or rejected.
pub(crate) fn configured(outcome: Result<(), String>) -> AgentResponse {
    match outcome {
        Ok(()) => AgentResponse::default_allow(),
        Err(reason) => AgentResponse::block(500, Some(reason)),
    }
}
