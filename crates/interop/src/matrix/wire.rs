use super::column::Implementation;
use crate::peer::{Peer, Version};
use crate::peer_agent::PeerAgent;
use crate::recorder::{OnFirstEvent, RecordingServer};
use std::fmt::{self, Display, Formatter};
use tollgate::Encoding;

/// Connection between the two sides of a column.
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
    /// All connections, in the order of their tables.
    pub const ALL: [Self; 3] = [Self::MessagePack, Self::Json, Self::Grpc];

    /// Returns the encoding of payloads.
    pub const fn encoding(self) -> Encoding {
        match self {
            Self::MessagePack => Encoding::MessagePack,
            Self::Json => Encoding::Json,
            Self::Grpc => Encoding::Protobuf,
        }
    }

    /// Returns the heading of the table.
    pub(super) const fn heading(self) -> &'static str {
        match self {
            Self::MessagePack => "MessagePack over Unix sockets",
            Self::Json => "JSON over Unix sockets",
            Self::Grpc => "gRPC",
        }
    }

    /// Returns the encodings that tollgate's pool offers an agent, so that they negotiate the right
    /// one.
    pub(super) fn offered_to(self, agent: Implementation) -> Vec<Encoding> {
        match (self, agent) {
            (Self::Json, agent) if agent.is_tollgate() => vec![Encoding::Json],
            // Builds of `zentinel-agent-protocol` that support only JSON choose that.
            _ => vec![Encoding::MessagePack, Encoding::Json],
        }
    }

    /// Returns the peer for a version. Over sockets its build decides the encoding.
    pub(super) fn peer(self, version: Version) -> Peer {
        let best = match self {
            Self::Json => Encoding::Json,
            Self::MessagePack | Self::Grpc => Encoding::MessagePack,
        };
        Peer::find(version, best)
    }

    /// Starts a peer's agent.
    pub(super) async fn start(self, peer: &Peer) -> PeerAgent {
        match self {
            Self::MessagePack | Self::Json => PeerAgent::start(peer).await,
            Self::Grpc => PeerAgent::start_grpc(peer).await,
        }
    }

    /// Starts tollgate's agent for a proxy.
    pub(super) async fn serve(
        self,
        proxy: Implementation,
        on_first_event: OnFirstEvent,
    ) -> RecordingServer {
        match self {
            // A peer on tollgate offers both.
            Self::Json if proxy.is_tollgate() => {
                RecordingServer::serve(&[Encoding::Json], on_first_event).await
            }
            Self::MessagePack | Self::Json => {
                RecordingServer::serve(&[Encoding::MessagePack, Encoding::Json], on_first_event)
                    .await
            }
            Self::Grpc => RecordingServer::serve_grpc(on_first_event).await,
        }
    }

    /// Returns whether a peer's agent adds the correlation id to `audit.custom`.
    pub(super) const fn has_id_in_audit(self) -> bool {
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
