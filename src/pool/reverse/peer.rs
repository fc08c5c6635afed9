//! The identity of peers.

use crate::transport::PeerKey;
use std::fmt;

/// The peer of a connection, as far as the transport knows it.
#[derive(Debug, Clone)]
pub(super) struct Peer {
    pub(super) key: PeerKey,
    /// Where it connects from, for the log.
    pub(super) address: String,
    /// User and group of a process on this machine.
    pub(super) user: Option<User>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct User {
    pub(super) uid: u32,
    pub(super) gid: u32,
}

impl Peer {
    pub(super) fn user(user: User) -> Self {
        Self {
            key: PeerKey::User(user.uid),
            address: format!("user {}", user.uid),
            user: Some(user),
        }
    }

    pub(super) fn at(address: std::net::SocketAddr) -> Self {
        Self {
            key: PeerKey::of(address.ip()),
            address: address.to_string(),
            user: None,
        }
    }
}

impl fmt::Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.address)
    }
}
