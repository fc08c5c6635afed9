use super::fidelity::Dispensable;
use super::wire::Wire;
use crate::peer::{Peer, Version};
use std::fmt::{self, Display, Formatter};

/// Whose code one side runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Maker {
    /// This crate.
    Tollgate,
    /// A version of the published crate.
    Published(Version),
}

/// Who asks whom, and over what.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Column {
    /// Who asks.
    pub proxy: Maker,
    /// Who answers.
    pub agent: Maker,
    /// What connects them.
    pub wire: Wire,
    /// What the proxy does with tollgate's extension, if it is tollgate.
    pub extension: Extension,
}

/// What a proxy does with the extension of the protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Extension {
    /// It offers it.
    Offered,
    /// It leaves it out, as the published proxies do.
    LeftOut,
}

impl Column {
    /// Every column in which tollgate and these versions can meet.
    pub fn between(versions: &[Version]) -> Vec<Self> {
        let published = versions.iter().copied().map(Maker::Published);
        let makers: Vec<_> = [Maker::Tollgate].into_iter().chain(published).collect();
        let mut columns = Vec::new();
        for wire in Wire::ALL {
            for &proxy in &makers {
                columns.extend(makers.iter().map(|&agent| Self {
                    proxy,
                    agent,
                    wire,
                    extension: Extension::Offered,
                }));
            }
        }
        columns
    }

    /// Whether both sides are this crate.
    pub fn is_ours_alone(&self) -> bool {
        (self.proxy, self.agent) == (Maker::Tollgate, Maker::Tollgate)
    }

    /// The side that is the published crate, the agent if both are.
    pub(super) fn published_side(&self) -> Option<Maker> {
        [self.agent, self.proxy]
            .into_iter()
            .find(|maker| maker.published().is_some())
    }

    /// What may be missing of what one side says: nothing, unless the published messages have no place for it.
    pub(super) fn dispensable(&self, fields: Dispensable) -> Dispensable {
        match (self.wire, self.published_side()) {
            (Wire::Grpc, Some(_)) => fields,
            _ => Dispensable::NOTHING,
        }
    }

    /// Whether the two agree on the extension.
    pub(super) fn has_extension(&self) -> bool {
        self.is_ours_alone() && self.extension == Extension::Offered
    }
}

impl Maker {
    /// Which version of the published crate it is, if any.
    pub(super) const fn published(self) -> Option<Version> {
        match self {
            Self::Tollgate => None,
            Self::Published(version) => Some(version),
        }
    }

    /// The program of a published side.
    pub(super) fn peer(self, wire: Wire) -> Option<Peer> {
        self.published().map(|version| wire.peer(version))
    }
}

impl Display for Maker {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tollgate => f.write_str("tollgate"),
            Self::Published(version) => version.fmt(f),
        }
    }
}

/// Without what connects them, which has a table of its own.
impl Display for Column {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "{} → {}", self.proxy, self.agent)
    }
}
