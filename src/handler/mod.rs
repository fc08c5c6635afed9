//! The handler that an agent implements, and the forms in which it is called.

mod agent_handler;
mod any_handler;
mod forms;

pub use agent_handler::AgentHandler;
pub(crate) use any_handler::{AnyHandler, configured};
pub use forms::{DynAgentHandler, handler_fn};
