//! The server of an agent in a simulation.

use super::handler::AgentHandler;
use super::unix_server::UdsAgentServer;
use crate::connection::link::Link;
use crate::transport::simulated::{Listener, link};
use std::future::pending;
use tokio::task::JoinSet;

/// Serves an agent at a simulated listener, like
/// [`BoundAgentServer::serve_until`](super::BoundAgentServer::serve_until).
pub async fn serve<H: AgentHandler>(
    server: UdsAgentServer<H>,
    listener: impl Listener,
    shutdown: impl Future<Output = ()>,
) {
    let mut sessions = JoinSet::new();
    let accept = || accept(&listener);
    server.serve_links(&mut sessions, accept, shutdown).await;
    drop(listener);
    server.drain(sessions).await;
}

async fn accept(listener: &impl Listener) -> Link {
    match listener.accept().await {
        Ok(stream) => link(stream),
        Err(_) => pending().await,
    }
}
