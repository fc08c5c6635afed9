//! The agent's side: the server that calls the agent's handler.

mod answer;
#[cfg(feature = "__bench")]
#[path = "../../benches/internals/agent.rs"]
pub(crate) mod bench;
mod control;
mod dial;
#[cfg(feature = "grpc")]
mod grpc;
mod handshake;
mod reusable_future;
mod server;
mod session;
mod session_error;
mod session_handle;

pub use control::AgentControl;
#[cfg(feature = "__sim")]
pub use server::Simulated;
#[cfg(feature = "tls")]
pub use server::TlsHandshake;
pub use server::{
    AgentServer, AgentServerBuilder, Incoming, Listener, NotAsked, OtherSession, SessionMemory,
    StreamSocket,
};
