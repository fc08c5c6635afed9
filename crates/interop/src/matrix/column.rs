use crate::peer::{Peer, Version};
use std::fmt::{self, Display, Formatter};
use tollgate::Encoding;

/// Whose code one side runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Maker {
    /// This crate.
    Tollgate,
    /// A version of the published crate.
    Published(Version),
}

/// Who asks whom, and how what they say is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Column {
    /// Who asks.
    pub proxy: Maker,
    /// Who answers.
    pub agent: Maker,
    /// How payloads are written.
    pub encoding: Encoding,
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
        for encoding in [Encoding::MessagePack, Encoding::Json] {
            for &proxy in &makers {
                columns.extend(makers.iter().map(|&agent| Self {
                    proxy,
                    agent,
                    encoding,
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

    /// Whether the two agree on the extension.
    pub(super) fn has_extension(&self) -> bool {
        self.is_ours_alone() && self.extension == Extension::Offered
    }
}

impl Maker {
    /// The program of a published side. Its build alone decides what it can write.
    pub(super) fn peer(self, encoding: Encoding) -> Option<Peer> {
        match self {
            Self::Tollgate => None,
            Self::Published(version) => Some(Peer::find(version, encoding)),
        }
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

/// Without the encoding, which has a table of its own.
impl Display for Column {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "{} → {}", self.proxy, self.agent)
    }
}
