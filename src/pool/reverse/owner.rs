//! Who owns an agent's id.

use crate::transport::PeerKey;
use std::time::Duration;

/// The registration of an agent that connects to the proxy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Registration {
    pub(super) owner: IdOwner,
    /// Time that the agent is kept after its last connection has ended.
    pub(super) grace: Duration,
}

/// The owner of an agent's id.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum IdOwner {
    /// Every peer that proves that the id is its own: it has a token or certificate for this id, or
    /// runs as root or as the proxy's own user.
    Credential,
    /// The peer that registered the id first.
    Peer(PeerKey),
}

impl Registration {
    /// Returns whether the agent has proved that the id is its own.
    pub(crate) fn is_proven(self) -> bool {
        self.owner == IdOwner::Credential
    }
}
