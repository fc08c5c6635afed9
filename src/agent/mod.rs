//! The agent's side: the handler that an agent implements, and the server that calls it.

mod answer;
#[cfg(feature = "__bench")]
#[path = "../../benches/internals/agent.rs"]
pub(crate) mod bench;
mod control;
mod deadline;
mod dial;
mod exchange_order;
#[cfg(feature = "grpc")]
mod grpc;
mod handler;
mod handler_forms;
mod handshake;
mod reusable_future;
mod server;
mod session;
mod session_error;
mod session_handle;

pub use control::AgentControl;
pub use deadline::time_left;
pub use handler::AgentHandler;
pub use handler_forms::{DynAgentHandler, handler_fn};
#[cfg(feature = "__sim")]
pub use server::Simulated;
pub use server::{AgentServer, AgentServerBuilder, Incoming, Listener, NotAsked, OtherSession};
