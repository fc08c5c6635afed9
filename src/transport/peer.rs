//! Identity of the peers that connect.

use std::fmt;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::Arc;
use tokio::net::{TcpStream, UnixStream};

/// Identifies a peer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum PeerKey {
    User(u32),
    /// An IPv4 address, or the /64 network of an IPv6 address, since a host usually has all 2⁶⁴
    /// addresses of its network.
    Network(IpAddr),
}

impl PeerKey {
    pub(crate) fn of(address: IpAddr) -> Self {
        let network = match address.to_canonical() {
            IpAddr::V6(address) => {
                let network = u128::from(address) & (u128::MAX << 64);
                IpAddr::V6(Ipv6Addr::from(network))
            }
            v4 @ IpAddr::V4(_) => v4,
        };
        Self::Network(network)
    }

    /// Returns the name for the log of the peer of a Unix socket.
    pub(crate) fn name_of_unix(stream: &UnixStream) -> Arc<str> {
        stream.peer_cred().map_or_else(
            |_| "unix".into(),
            |user| Self::User(user.uid()).to_string().into(),
        )
    }

    /// Returns the name for the log of the peer of a TCP connection.
    pub(crate) fn name_of_tcp(stream: &TcpStream) -> Arc<str> {
        stream.peer_addr().map_or_else(
            |_| "tcp".into(),
            |address| Self::of(address.ip()).to_string().into(),
        )
    }
}

impl fmt::Display for PeerKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::User(uid) => write!(f, "user {uid}"),
            Self::Network(address @ IpAddr::V6(_)) => write!(f, "{address}/64"),
            Self::Network(address) => address.fmt(f),
        }
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
