use super::column::{Column, Implementation};
use crate::peer_agent::{Logged, PeerAgent};
use crate::recorder::{OnFirstEvent, RecordingServer};
use std::path::Path;
use tollgate::AgentControl;

/// Running agent of a column.
pub(super) enum RunningAgent {
    Tollgate(RecordingServer),
    Peer(PeerAgent),
}

impl RunningAgent {
    /// Starts the agent. Only for peers as proxies, tollgate's agent calls `on_first_event`.
    pub(super) async fn start(column: &Column, on_first_event: OnFirstEvent) -> Self {
        if let Some(peer) = column.agent.peer(column.wire) {
            return Self::Peer(column.wire.start(&peer).await);
        }
        let on_first_event = match column.proxy {
            Implementation::Tollgate => |_: &AgentControl| {},
            Implementation::Peer(_) => on_first_event,
        };
        Self::Tollgate(column.wire.serve(column.proxy, on_first_event).await)
    }

    /// Returns the name of an agent with this implementation.
    pub(super) const fn name(implementation: Implementation) -> &'static str {
        match implementation {
            Implementation::Tollgate => "recorder",
            Implementation::Peer(_) => "peer",
        }
    }

    /// Returns the path or endpoint at which the agent listens.
    pub(super) fn socket(&self) -> &Path {
        match self {
            Self::Tollgate(server) => server.socket(),
            Self::Peer(agent) => agent.socket(),
        }
    }

    /// Stops the agent and returns the events that its handler received.
    pub(super) async fn stop(self) -> Vec<Logged> {
        match self {
            Self::Tollgate(server) => server.stop().await,
            Self::Peer(agent) => agent.kill().await,
        }
    }
}
