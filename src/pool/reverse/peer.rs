//! The identity of peers.

use std::fmt;
use std::net::{IpAddr, Ipv6Addr};

/// The peer of a connection, as far as the transport knows it.
#[derive(Debug, Clone)]
pub(super) struct Peer {
    pub(super) key: PeerKey,
    /// Where it connects from, for the log.
    pub(super) address: String,
    /// User and group of a process on this machine.
    pub(super) user: Option<User>,
}

/// Identifies a peer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum PeerKey {
    User(u32),
    /// An IPv4 address, or the /64 network of an IPv6 address, since a host usually has all 2⁶⁴
    /// addresses of its network.
    Network(IpAddr),
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

impl PeerKey {
    fn of(address: IpAddr) -> Self {
        let network = match address.to_canonical() {
            IpAddr::V6(address) => {
                let network = u128::from(address) & (u128::MAX << 64);
                IpAddr::V6(Ipv6Addr::from(network))
            }
            v4 @ IpAddr::V4(_) => v4,
        };
        Self::Network(network)
    }
}

impl fmt::Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.address)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(address: &str) -> PeerKey {
        PeerKey::of(address.parse().unwrap())
    }

    #[test]
    fn addresses_of_one_network_are_one_peer() {
        assert_eq!(key("2001:db8::1"), key("2001:db8::2:3"));
        assert_ne!(key("2001:db8::1"), key("2001:db8:0:1::1"));
        assert_ne!(key("192.0.2.1"), key("192.0.2.2"));
        assert_eq!(key("::ffff:192.0.2.1"), key("192.0.2.1"));
    }
}
