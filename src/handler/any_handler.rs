//! Handlers whose type is not known, which answer without an allocation.

use super::agent_handler::AgentHandler;
use crate::protocol::events::GuardrailInspect;
use crate::protocol::{
    AgentCapabilities, AgentResponse, CancelReason, ConfigUpdateResponse, DrainRequest,
    ShutdownRequest,
};
use crate::response::AuditMetadata;
use crate::wire::{IncomingEvent, RequestHeadersView};
use stackfuture::StackFuture;
use std::fmt;
use std::sync::Arc;

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

    fn on_config_update_response(&self, response: ConfigUpdateResponse);

    fn on_drain(&self, request: DrainRequest);

    fn on_shutdown(&self, request: ShutdownRequest);

    fn on_connection_closed(&self);
}

/// The handler of an agent in this process, which its configuration and its connections share.
#[derive(Clone)]
pub(crate) struct SharedHandler {
    pub(super) handler: Arc<dyn AnyHandler>,
    /// Name of the agent, for the log.
    pub(super) agent_id: Arc<str>,
}

impl SharedHandler {
    pub(crate) fn new(agent_id: &str, handler: impl AnyHandler) -> Self {
        Self {
            handler: Arc::new(handler),
            agent_id: agent_id.into(),
        }
    }
}

impl fmt::Debug for SharedHandler {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("SharedHandler")
            .field(&self.agent_id)
            .finish()
    }
}

impl PartialEq for SharedHandler {
    fn eq(&self, other: &Self) -> bool {
        Arc::as_ptr(&self.handler).addr() == Arc::as_ptr(&other.handler).addr()
    }
}

impl Eq for SharedHandler {}

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
            WebSocketFrame by on_websocket_frame;
            IncomingEvent::GuardrailInspect(event) => {
                StackFuture::from_or_box(inspect(self, event))
            }
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

    fn on_config_update_response(&self, response: ConfigUpdateResponse) {
        AgentHandler::on_config_update_response(self, response);
    }

    fn on_drain(&self, request: DrainRequest) {
        AgentHandler::on_drain(self, request.duration_ms, request.reason);
    }

    fn on_shutdown(&self, request: ShutdownRequest) {
        AgentHandler::on_shutdown(self, request.reason, request.grace_period_ms);
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

/// Asks the handler about a text. An agent that does not declare that it inspects text would allow
/// any, so it blocks instead.
pub(crate) async fn inspect<H: AgentHandler>(
    handler: &H,
    event: GuardrailInspect<'_>,
) -> AgentResponse {
    if !AgentHandler::capabilities(handler).answers_guardrails() {
        return error_answer("undeclared");
    }
    handler.on_guardrail_inspect(event).await
}

/// Returns a block with status 500 and the reason code.
pub(crate) fn error_answer(code: &str) -> AgentResponse {
    AgentResponse::block(500, None).with_audit(AuditMetadata {
        reason_codes: vec!["agent_error".to_owned(), code.to_owned()],
        ..AuditMetadata::default()
    })
}
