//! Forms of handlers: closures, handlers behind pointers, and handlers whose type is not known.

use super::agent_handler::{AgentHandler, Handshake};
use crate::protocol::events::{
    BodyChunk, Configure, GuardrailInspect, RequestComplete, WebSocketFrame,
};
use crate::protocol::{
    AgentCapabilities, AgentResponse, CancelReason, ConfigUpdateResponse, DrainReason,
    ShutdownReason,
};
use crate::wire::{RequestHeadersView, ResponseHeadersView};
use futures_util::future::BoxFuture;
use std::sync::Arc;

/// Makes a handler of a closure that decides on the headers of requests. Other events are allowed.
///
/// The future must not borrow from the event: the closure copies what the future needs.
///
/// ```
/// use tollgate::{AgentCapabilities, AgentResponse, RequestHeadersView, handler_fn};
///
/// let capabilities = AgentCapabilities::new("no-admin", "Blocks /admin", "1.0.0");
/// let handler = handler_fn(capabilities, |event: RequestHeadersView<'_>| {
///     let is_admin = event.path().starts_with("/admin");
///     async move {
///         if is_admin {
///             return AgentResponse::block(403, None);
///         }
///         AgentResponse::default_allow()
///     }
/// });
/// # let _: &dyn tollgate::DynAgentHandler = &handler;
/// ```
pub fn handler_fn<F, A>(capabilities: AgentCapabilities, decide: F) -> impl AgentHandler
where
    F: Fn(RequestHeadersView<'_>) -> A + Send + Sync + 'static,
    A: Future<Output = AgentResponse> + Send + 'static,
{
    HandlerFn {
        capabilities,
        decide,
    }
}

/// A handler that calls a closure.
struct HandlerFn<F> {
    capabilities: AgentCapabilities,
    decide: F,
}

impl<F, A> AgentHandler for HandlerFn<F>
where
    F: Fn(RequestHeadersView<'_>) -> A + Send + Sync + 'static,
    A: Future<Output = AgentResponse> + Send + 'static,
{
    fn capabilities(&self) -> AgentCapabilities {
        self.capabilities.clone()
    }

    fn on_request_headers(
        &self,
        event: RequestHeadersView<'_>,
    ) -> impl Future<Output = AgentResponse> + Send {
        (self.decide)(event)
    }
}

/// Expands `$with` with the methods of [`AgentHandler`], apart from `capabilities`.
macro_rules! with_methods {
    ($with:ident!($($args:tt)*)) => {
        $with! {
            ($($args)*)
            on_handshake(Handshake) -> Result<(), String>,
            on_request_headers(RequestHeadersView) -> AgentResponse,
            on_request_body_chunk(BodyChunk) -> AgentResponse,
            on_response_headers(ResponseHeadersView) -> AgentResponse,
            on_response_body_chunk(BodyChunk) -> AgentResponse,
            on_request_complete(RequestComplete) -> AgentResponse,
            on_websocket_frame(WebSocketFrame) -> AgentResponse,
            on_guardrail_inspect(GuardrailInspect) -> AgentResponse,
            on_configure(Configure) -> Result<(), String>;
            on_request_recalled(event: RequestHeadersView<'_>),
            on_cancel(correlation_id: &str, reason: CancelReason),
            on_config_update_response(response: ConfigUpdateResponse),
            on_drain(duration_ms: u64, reason: DrainReason),
            on_shutdown(reason: ShutdownReason, grace_period_ms: u64),
            on_connection_closed(),
        }
    };
}

/// Defines [`DynAgentHandler`] and implements it for all handlers.
macro_rules! define_trait_object {
    (
        ()
        $($event_method:ident($event:ident) -> $answer:ty),*;
        $($method:ident($($arg:ident: $type:ty),*),)*
    ) => {
        /// [`AgentHandler`] as a trait object, for handlers that are chosen at run time.
        ///
        /// All handlers implement it, and a `Box<dyn DynAgentHandler>` or `Arc<dyn
        /// DynAgentHandler>` is a handler. The future of each event is on the heap.
        ///
        /// ```
        /// use tollgate::{AgentHandler, DynAgentHandler};
        ///
        /// fn first(mut handlers: Vec<Box<dyn DynAgentHandler>>) -> impl AgentHandler {
        ///     handlers.remove(0)
        /// }
        /// ```
        #[allow(missing_docs, reason = "the methods are those of `AgentHandler`")]
        pub trait DynAgentHandler: Send + Sync + 'static {
            fn capabilities(&self) -> AgentCapabilities;
            $(fn $event_method<'a>(&'a self, event: $event<'a>) -> BoxFuture<'a, $answer>;)*
            $(fn $method(&self $(, $arg: $type)*);)*
        }

        impl<H: AgentHandler> DynAgentHandler for H {
            fn capabilities(&self) -> AgentCapabilities {
                AgentHandler::capabilities(self)
            }
            $(fn $event_method<'a>(&'a self, event: $event<'a>) -> BoxFuture<'a, $answer> {
                Box::pin(AgentHandler::$event_method(self, event))
            })*
            $(fn $method(&self $(, $arg: $type)*) {
                AgentHandler::$method(self $(, $arg)*);
            })*
        }
    };
}

/// Implements [`AgentHandler`] for a type that holds a handler.
macro_rules! forward {
    (
        ([$($generics:tt)*] $for:ty, $this:ident => $handler:expr, $through:ident)
        $($event_method:ident($event:ident) -> $answer:ty),*;
        $($method:ident($($arg:ident: $type:ty),*),)*
    ) => {
        impl<$($generics)*> AgentHandler for $for {
            fn capabilities(&$this) -> AgentCapabilities {
                $through::capabilities($handler)
            }
            $(
                #[allow(
                    clippy::manual_async_fn,
                    reason = "the future of an `async fn` holds its arguments twice"
                )]
                fn $event_method(
                    &$this,
                    event: $event<'_>,
                ) -> impl Future<Output = $answer> + Send {
                    async move { $through::$event_method($handler, event).await }
                }
            )*
            $(fn $method(&$this $(, $arg: $type)*) {
                $through::$method($handler $(, $arg)*);
            })*
        }
    };
}

with_methods!(define_trait_object!());
with_methods!(forward!([] dyn DynAgentHandler, self => self, DynAgentHandler));
with_methods!(forward!([H: AgentHandler + ?Sized] Arc<H>, self => &**self, AgentHandler));
with_methods!(forward!([H: AgentHandler + ?Sized] Box<H>, self => &**self, AgentHandler));
