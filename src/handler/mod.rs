//! The handler that an agent implements, and the forms in which it is called.

mod agent_handler;
mod any_handler;
mod deadline;
mod exchange_order;
mod forms;
mod local;

pub use agent_handler::{AgentHandler, Handshake};
pub(crate) use any_handler::{AnyHandler, SharedHandler, configured, error_answer, inspect};
pub(crate) use deadline::poll_until;
pub use deadline::time_left;
pub(crate) use exchange_order::ExchangeOrder;
pub use forms::{DynAgentHandler, handler_fn};
pub(crate) use local::{LocalAgent, Panicked};
