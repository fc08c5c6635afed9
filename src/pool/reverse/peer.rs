use std::fmt;
use std::net::{IpAddr, Ipv6Addr};

/// Who is at the other end of a connection, as far as the transport knows.
#[derive(Debug, Clone)]
pub(super) struct Peer {
    pub(super) key: PeerKey,
    /// For the log: where it connects from.
    pub(super) address: String,
    /// The user and group of a process on this machine.
    pub(super) user: Option<User>,
}

/// What peers are told apart by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum PeerKey {
    User(u32),
    /// An IPv6 address stands for its network: whoever has one usually has all 2⁶⁴ of it.
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
    fn a_network_is_one_peer() {
        assert_eq!(key("2001:db8::1"), key("2001:db8::2:3"));
        assert_ne!(key("2001:db8::1"), key("2001:db8:0:1::1"));
        assert_ne!(key("192.0.2.1"), key("192.0.2.2"));
        assert_eq!(key("::ffff:192.0.2.1"), key("192.0.2.1"));
    }
}
