use super::fidelity::LossyFields;
use super::wire::Wire;
use crate::peer::{Peer, Version};
use std::fmt::{self, Display, Formatter};

/// Implementation that one side runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Implementation {
    /// This crate.
    Tollgate,
    /// A peer, whose API is that of `zentinel-agent-protocol`.
    Peer(Version),
}

/// Proxy, agent and the connection between them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Column {
    /// Implementation of the proxy.
    pub proxy: Implementation,
    /// Implementation of the agent.
    pub agent: Implementation,
    /// Connection between them.
    pub wire: Wire,
    /// Use of the protocol extension, if the proxy is tollgate.
    pub extension: Extension,
}

/// Use of the protocol extension by a proxy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Extension {
    /// The proxy offers the extension.
    Offered,
    /// The proxy does not offer the extension, like those of `zentinel-agent-protocol`.
    LeftOut,
}

impl Column {
    /// Returns all columns for tollgate and these versions.
    pub fn between(versions: &[Version]) -> Vec<Self> {
        let peers = versions.iter().copied().map(Implementation::Peer);
        let implementations: Vec<_> = [Implementation::Tollgate]
            .into_iter()
            .chain(peers)
            .collect();
        let mut columns = Vec::new();
        for wire in Wire::ALL {
            for &proxy in &implementations {
                columns.extend(implementations.iter().map(|&agent| Self {
                    proxy,
                    agent,
                    wire,
                    extension: Extension::Offered,
                }));
            }
        }
        columns.retain(Self::is_of_interest);
        columns
    }

    /// Returns whether the column is part of the matrix. Earlier tollgate is there only with the
    /// present one.
    fn is_of_interest(&self) -> bool {
        let sides = [self.proxy, self.agent];
        sides.contains(&Implementation::Tollgate) || !sides.iter().any(|side| side.is_tollgate())
    }

    /// Returns whether both sides are this tollgate.
    pub fn is_present_on_both_sides(&self) -> bool {
        (self.proxy, self.agent) == (Implementation::Tollgate, Implementation::Tollgate)
    }

    /// Returns the side that is `zentinel-agent-protocol`, or the agent if both sides are.
    pub(super) fn zentinel_side(&self) -> Option<Implementation> {
        [self.agent, self.proxy]
            .into_iter()
            .find(|implementation| implementation.zentinel().is_some())
    }

    /// Returns the fields that may be lost: none, unless one side uses the gRPC messages of
    /// `zentinel-agent-protocol`.
    pub(super) fn lossy_fields(&self, fields: LossyFields) -> LossyFields {
        match (self.wire, self.zentinel_side()) {
            (Wire::Grpc, Some(_)) => fields,
            _ => LossyFields::NONE,
        }
    }

    /// Returns whether answers have the correlation id in `audit.custom`.
    pub(super) fn has_id_in_audit(&self) -> bool {
        self.wire.has_id_in_audit() && self.extension_version() == 0
    }

    /// Returns the version of the extension that the two sides negotiate, 0 for none.
    pub(super) fn extension_version(&self) -> u64 {
        let is_offered = self.extension == Extension::Offered;
        match (self.proxy, self.agent) {
            (proxy, agent) if !(is_offered && proxy.is_tollgate() && agent.is_tollgate()) => 0,
            (Implementation::Tollgate, Implementation::Tollgate) => 2,
            _ => 1,
        }
    }
}

impl Implementation {
    /// Returns the version of `zentinel-agent-protocol`, if it is that.
    pub(super) const fn zentinel(self) -> Option<Version> {
        match self {
            Self::Peer(version) if !version.is_tollgate() => Some(version),
            _ => None,
        }
    }

    /// Returns whether it is a peer, whose API is that of `zentinel-agent-protocol`.
    pub(super) const fn is_peer(self) -> bool {
        matches!(self, Self::Peer(_))
    }

    /// Returns whether it is tollgate, of any version.
    pub(super) const fn is_tollgate(self) -> bool {
        match self {
            Self::Tollgate => true,
            Self::Peer(version) => version.is_tollgate(),
        }
    }

    /// Returns the peer for a side that is not this tollgate.
    pub(super) fn peer(self, wire: Wire) -> Option<Peer> {
        match self {
            Self::Tollgate => None,
            Self::Peer(version) => Some(wire.peer(version)),
        }
    }
}

impl Display for Implementation {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tollgate => f.write_str("tollgate"),
            Self::Peer(version) => version.fmt(f),
        }
    }
}

/// Omits the connection, as each has its own table.
impl Display for Column {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "{} → {}", self.proxy, self.agent)
    }
}
