use super::column::{Column, Maker};
use crate::peer_agent::{Logged, PeerAgent};
use crate::recorder::{FirstWords, RecordingServer};
use std::path::Path;
use tollgate::AgentControl;

/// The agent of a column.
pub(super) enum RunningAgent {
    Tollgate(RecordingServer),
    Published(PeerAgent),
}

impl RunningAgent {
    /// Starts it. Tollgate's agent has something to say to proxies on the published crate at once.
    pub(super) async fn start(column: &Column, first_words: FirstWords) -> Self {
        if let Some(peer) = column.agent.peer(column.wire) {
            return Self::Published(column.wire.start(&peer).await);
        }
        let first_words = match column.proxy {
            Maker::Tollgate => |_: &AgentControl| {},
            Maker::Published(_) => first_words,
        };
        Self::Tollgate(column.wire.serve(first_words).await)
    }

    /// What an agent of this make calls itself.
    pub(super) const fn name(maker: Maker) -> &'static str {
        match maker {
            Maker::Tollgate => "recorder",
            Maker::Published(_) => "peer",
        }
    }

    /// Where it listens.
    pub(super) fn socket(&self) -> &Path {
        match self {
            Self::Tollgate(server) => server.socket(),
            Self::Published(agent) => agent.socket(),
        }
    }

    /// Ends it and gives what its handler was given.
    pub(super) async fn stop(self) -> Vec<Logged> {
        match self {
            Self::Tollgate(server) => server.stop().await,
            Self::Published(agent) => agent.kill().await,
        }
    }
}
