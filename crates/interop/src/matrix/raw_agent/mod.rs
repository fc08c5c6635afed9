//! Raw agents, which send messages that no other agent can send.

mod grpc;
mod protobuf;
mod socket;

use super::column::{Column, Implementation};
use super::notice::Message;
use super::wire::Wire;
use crate::peer::Version;
use grpc::GrpcAgent;
use socket::{Format, SocketAgent};
use std::path::Path;

/// Agent that sends given messages, in the form that the types of `zentinel-agent-protocol` have.
///
/// It accepts one connection and allows everything.
#[derive(Debug)]
pub(super) enum RawAgent {
    Socket(SocketAgent),
    Grpc(GrpcAgent),
}

impl RawAgent {
    /// Starts a replacement for the agent of a column. For tollgate's agent it acts as the newest
    /// version of `zentinel-agent-protocol`.
    pub(super) async fn listen(column: &Column) -> Self {
        let version = match column.agent {
            Implementation::Tollgate => Version::V0_6_54,
            Implementation::Peer(version) => version,
        };
        match column.wire {
            Wire::MessagePack | Wire::Json => Self::Socket(SocketAgent::listen(Format {
                encoding: column.wire.encoding(),
                version,
            })),
            // All versions have the same gRPC messages.
            Wire::Grpc => Self::Grpc(GrpcAgent::listen().await),
        }
    }

    /// Returns the path or endpoint at which the agent listens.
    pub(super) fn socket(&self) -> &Path {
        match self {
            Self::Socket(agent) => agent.socket(),
            Self::Grpc(agent) => agent.endpoint(),
        }
    }

    pub(super) fn send(&self, message: &Message) {
        match self {
            Self::Socket(agent) => agent.send(message),
            Self::Grpc(agent) => agent.send(message),
        }
    }

    /// Pings the proxy. Returns whether the pong has the same payload, or `None` if agents cannot
    /// ping on this connection.
    pub(super) async fn ping(&mut self) -> Option<bool> {
        match self {
            Self::Socket(agent) => Some(agent.ping().await),
            Self::Grpc(_) => None,
        }
    }
}
