use super::fidelity::LossyFields;
use super::wire::Wire;
use crate::peer::{Peer, Version};
use std::fmt::{self, Display, Formatter};

/// Implementation that one side runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Implementation {
    /// This crate.
    Tollgate,
    /// A version of `zentinel-agent-protocol`.
    Zentinel(Version),
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
        let zentinel = versions.iter().copied().map(Implementation::Zentinel);
        let implementations: Vec<_> = [Implementation::Tollgate]
            .into_iter()
            .chain(zentinel)
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
        columns
    }

    /// Returns whether both sides are tollgate.
    pub fn is_tollgate_on_both_sides(&self) -> bool {
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

    /// Returns whether the two sides negotiate the extension.
    pub(super) fn has_extension(&self) -> bool {
        self.is_tollgate_on_both_sides() && self.extension == Extension::Offered
    }
}

impl Implementation {
    /// Returns the version of `zentinel-agent-protocol`, if it is that.
    pub(super) const fn zentinel(self) -> Option<Version> {
        match self {
            Self::Tollgate => None,
            Self::Zentinel(version) => Some(version),
        }
    }

    /// Returns the peer for a side that is not tollgate.
    pub(super) fn peer(self, wire: Wire) -> Option<Peer> {
        self.zentinel().map(|version| wire.peer(version))
    }
}

impl Display for Implementation {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tollgate => f.write_str("tollgate"),
            Self::Zentinel(version) => version.fmt(f),
        }
    }
}

/// Omits the connection, as each has its own table.
impl Display for Column {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "{} → {}", self.proxy, self.agent)
    }
}
