//! The agent's side: the handler that an agent implements, the servers that call it, and the dialer
//! that connects it to proxies.

mod accepted_connection;
mod answer;
#[cfg(feature = "__bench")]
pub(crate) mod bench;
mod control;
mod dial;
mod exchange_order;
#[cfg(feature = "grpc")]
mod grpc_acceptor;
#[cfg(feature = "grpc")]
mod grpc_call;
#[cfg(feature = "grpc")]
mod grpc_server;
#[cfg(feature = "grpc")]
mod grpc_service;
mod handler;
mod reusable_future;
mod server_settings;
mod session;
mod session_error;
#[cfg(feature = "__sim")]
pub(crate) mod simulated;
mod unix_server;

pub use control::AgentControl;
pub use dial::AgentDialer;
#[cfg(feature = "grpc")]
pub use grpc_server::{BoundGrpcAgentServer, GrpcAgentServer};
pub use handler::AgentHandler;
pub use unix_server::{BoundAgentServer, UdsAgentServer};
