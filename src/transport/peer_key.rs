//! The identity of peers, by which limits are shared out.

use std::net::{IpAddr, Ipv6Addr};
use tokio::net::{TcpStream, UnixStream};

/// Identifies the peer of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum PeerKey {
    User(u32),
    /// A process on this machine.
    Process(i32),
    /// An IPv4 address, or the /64 network of an IPv6 address, since a host usually has all 2⁶⁴
    /// addresses of its network.
    Network(IpAddr),
    Unknown,
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

    pub(crate) fn of_unix(stream: &UnixStream) -> Self {
        let process = stream.peer_cred().ok().and_then(|peer| peer.pid());
        process.map_or(Self::Unknown, Self::Process)
    }

    pub(crate) fn of_tcp(stream: &TcpStream) -> Self {
        let address = stream.peer_addr();
        address.map_or(Self::Unknown, |address| Self::of(address.ip()))
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
