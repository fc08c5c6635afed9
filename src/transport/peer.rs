//! Identity of the peers that connect.

use std::fmt;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::Arc;
use tokio::net::{TcpStream, UnixStream};

/// Identifies a peer.
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

/// The peer of a connection: its identity for limits, and its name for the log.
#[derive(Debug, Clone)]
pub(crate) struct Peer {
    pub(crate) key: PeerKey,
    pub(crate) name: Arc<str>,
}

impl Peer {
    /// Returns a peer that is known by a name only.
    pub(crate) fn named(name: impl Into<Arc<str>>) -> Self {
        Self {
            key: PeerKey::Unknown,
            name: name.into(),
        }
    }

    pub(crate) fn of_unix(stream: &UnixStream) -> Self {
        let Ok(credentials) = stream.peer_cred() else {
            return Self::named("unix");
        };
        let user = PeerKey::User(credentials.uid());
        Self {
            key: credentials.pid().map_or(user, PeerKey::Process),
            name: user.to_string().into(),
        }
    }

    pub(crate) fn of_tcp(stream: &TcpStream) -> Self {
        let Ok(address) = stream.peer_addr() else {
            return Self::named("tcp");
        };
        let key = PeerKey::of(address.ip());
        Self {
            key,
            name: key.to_string().into(),
        }
    }
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
}

impl fmt::Display for PeerKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::User(uid) => write!(f, "user {uid}"),
            Self::Process(pid) => write!(f, "process {pid}"),
            Self::Unknown => f.write_str("unknown"),
            Self::Network(address @ IpAddr::V6(_)) => write!(f, "{address}/64"),
            Self::Network(address) => address.fmt(f),
        }
    }
}

#[cfg(test)]
#[path = "../../tests/unit/transport/peer.rs"]
mod tests;
