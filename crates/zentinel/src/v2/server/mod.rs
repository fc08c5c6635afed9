//! The agent's side: the trait that agents implement, and the server for gRPC.

mod adapter;
mod handler;

pub use handler::AgentHandlerV2;
pub use tollgate::control::{DrainReason, ShutdownReason};

use crate::AgentProtocolError;
use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;
use tollgate::{AgentServer, AgentServerBuilder};

pub(super) use adapter::Adapter;

/// Serves an agent over gRPC.
///
/// Health checks (`grpc.health.v1`) and reflection are served as well.
pub struct GrpcAgentServerV2 {
    id: String,
    handler: Arc<dyn AgentHandlerV2>,
}

impl GrpcAgentServerV2 {
    /// Creates a server that does not listen yet.
    pub fn new(id: impl Into<String>, handler: Box<dyn AgentHandlerV2>) -> Self {
        Self {
            id: id.into(),
            handler: handler.into(),
        }
    }

    /// Listens at an address and serves until the returned future is dropped.
    ///
    /// # Errors
    ///
    /// [`Io`](AgentProtocolError::Io) if the address is in use or may not be used.
    pub async fn run(self, addr: SocketAddr) -> Result<(), AgentProtocolError> {
        tracing::info!(agent = self.id, %addr, "serving an agent over gRPC");
        let server = builder(&self.handler).listen(format!("grpc://{addr}"));
        Ok(server.serve().await?)
    }
}

/// Begins a server that asks a handler.
pub(super) fn builder(handler: &Arc<dyn AgentHandlerV2>) -> AgentServerBuilder<Adapter> {
    AgentServer::builder(Adapter(Arc::clone(handler)))
}

impl fmt::Debug for GrpcAgentServerV2 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("GrpcAgentServerV2")
            .field("id", &self.id)
            .finish_non_exhaustive()
    }
}
