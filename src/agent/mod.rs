//! The other side: what an agent implements and the servers that call it.

mod answer;
#[cfg(feature = "__bench")]
pub(crate) mod bench;
mod control;
mod doorway;
mod handler;
mod order;
mod place;
mod session;
mod socket_file;
mod unix_server;

pub use control::AgentControl;
pub use handler::AgentHandler;
pub use unix_server::{BoundAgentServer, UdsAgentServer};
