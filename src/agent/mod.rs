//! The other side: what an agent implements, the server that calls it, and the dialer that connects it to proxies.

mod answer;
mod attempts;
#[cfg(feature = "__bench")]
pub(crate) mod bench;
mod control;
mod dialer;
mod dialling;
#[cfg(feature = "grpc")]
mod grpc_call;
#[cfg(feature = "grpc")]
mod grpc_entrance;
#[cfg(feature = "grpc")]
mod grpc_server;
#[cfg(feature = "grpc")]
mod grpc_service;
mod handler;
mod order;
mod place;
mod reception;
mod session;
mod session_error;
mod unix_server;

pub use control::AgentControl;
pub use dialer::AgentDialer;
#[cfg(feature = "grpc")]
pub use grpc_server::{BoundGrpcAgentServer, GrpcAgentServer};
pub use handler::AgentHandler;
pub use unix_server::{BoundAgentServer, UdsAgentServer};
