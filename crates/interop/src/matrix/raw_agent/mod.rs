//! Agents that are played by hand, for what no agent says by itself.

mod grpc;
mod protobuf;
mod socket;

use super::column::{Column, Maker};
use super::notice::Message;
use super::wire::Wire;
use crate::peer::Version;
use grpc::GrpcAgent;
use socket::{SocketAgent, Style};
use std::path::Path;

/// An agent that says what it is told to, as the code of the published crate would if its server had a way
/// of saying it. It takes one connection and allows everything.
#[derive(Debug)]
pub(super) enum RawAgent {
    Socket(SocketAgent),
    Grpc(GrpcAgent),
}

impl RawAgent {
    /// Stands in for the agent of a column, for tollgate's as the newest published one.
    pub(super) async fn listen(column: &Column) -> Self {
        let version = match column.agent {
            Maker::Tollgate => Version::V0_6_45,
            Maker::Published(version) => version,
        };
        match column.wire {
            Wire::MessagePack | Wire::Json => Self::Socket(SocketAgent::listen(Style {
                encoding: column.wire.encoding(),
                version,
            })),
            // All versions have the same messages.
            Wire::Grpc => Self::Grpc(GrpcAgent::listen().await),
        }
    }

    /// Where it listens.
    pub(super) fn socket(&self) -> &Path {
        match self {
            Self::Socket(agent) => agent.socket(),
            Self::Grpc(agent) => agent.endpoint(),
        }
    }

    pub(super) fn tell(&self, message: &Message) {
        match self {
            Self::Socket(agent) => agent.tell(message),
            Self::Grpc(agent) => agent.tell(message),
        }
    }

    /// Asks the proxy for a sign of life; says whether the same comes back, or `None` if there is no message
    /// for it.
    pub(super) async fn ping(&mut self) -> Option<bool> {
        match self {
            Self::Socket(agent) => Some(agent.ping().await),
            Self::Grpc(_) => None,
        }
    }
}
