use super::column::Maker;
use crate::peer::{Peer, Version};
use crate::peer_agent::PeerAgent;
use crate::recorder::{FirstWords, RecordingServer};
use std::fmt::{self, Display, Formatter};
use tollgate::Encoding;

/// What connects the two sides of a column.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wire {
    /// A Unix socket with MessagePack.
    MessagePack,
    /// A Unix socket with JSON.
    Json,
    /// gRPC.
    Grpc,
}

impl Wire {
    /// All of them, in the order of their tables.
    pub const ALL: [Self; 3] = [Self::MessagePack, Self::Json, Self::Grpc];

    /// How payloads are written.
    pub const fn encoding(self) -> Encoding {
        match self {
            Self::MessagePack => Encoding::MessagePack,
            Self::Json => Encoding::Json,
            Self::Grpc => Encoding::Protobuf,
        }
    }

    /// What stands above its table.
    pub(super) const fn heading(self) -> &'static str {
        match self {
            Self::MessagePack => "In MessagePack",
            Self::Json => "In JSON",
            Self::Grpc => "Over gRPC",
        }
    }

    /// What tollgate's pool offers an agent of this make, so that they agree on the right one.
    pub(super) fn offered_to(self, agent: Maker) -> Vec<Encoding> {
        match (self, agent) {
            (Self::Json, Maker::Tollgate) => vec![Encoding::Json],
            // The builds of the published crate that know JSON alone choose that.
            _ => vec![Encoding::MessagePack, Encoding::Json],
        }
    }

    /// The program of a published version. Over sockets its build alone decides what it can write.
    pub(super) fn peer(self, version: Version) -> Peer {
        let best = match self {
            Self::Json => Encoding::Json,
            Self::MessagePack | Self::Grpc => Encoding::MessagePack,
        };
        Peer::find(version, best)
    }

    /// Starts the agent of a peer.
    pub(super) async fn start(self, peer: &Peer) -> PeerAgent {
        match self {
            Self::MessagePack | Self::Json => PeerAgent::start(peer).await,
            Self::Grpc => PeerAgent::start_grpc(peer).await,
        }
    }

    /// Starts tollgate's agent.
    pub(super) async fn serve(self, first_words: FirstWords) -> RecordingServer {
        match self {
            Self::MessagePack | Self::Json => {
                RecordingServer::serve(&[Encoding::MessagePack, Encoding::Json], first_words).await
            }
            Self::Grpc => RecordingServer::serve_grpc(first_words).await,
        }
    }

    /// Whether an answer of a published agent names its event in `audit.custom`.
    pub(super) const fn names_events_in_audit(self) -> bool {
        match self {
            Self::MessagePack | Self::Json => true,
            Self::Grpc => false,
        }
    }
}

impl Display for Wire {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::MessagePack => "MessagePack",
            Self::Json => "JSON",
            Self::Grpc => "gRPC",
        })
    }
}
