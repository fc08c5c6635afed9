//! The links that are soaked, one line for each.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::str::FromStr;

pub(crate) const LINKS: [Link; 8] = [
    Link::new("unix", Direction::Forward, Transport::Unix),
    Link::new("tcp", Direction::Forward, Transport::Tcp),
    Link::new("grpc", Direction::Forward, Transport::Grpc),
    Link::new("grpcs", Direction::Forward, Transport::Grpcs),
    Link::new("grpc-unix", Direction::Forward, Transport::GrpcUnix),
    Link::new("reverse-unix", Direction::Reverse, Transport::Unix),
    Link::new("reverse-tcp", Direction::Reverse, Transport::Tcp),
    Link::new("reverse-tls", Direction::Reverse, Transport::Tls),
];

/// A way for a pool and an agent to be connected.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Link {
    pub(crate) name: &'static str,
    pub(crate) direction: Direction,
    pub(crate) transport: Transport,
}

impl Link {
    const fn new(name: &'static str, direction: Direction, transport: Transport) -> Self {
        Self {
            name,
            direction,
            transport,
        }
    }

    pub(crate) fn named(name: &str) -> Option<Self> {
        LINKS.into_iter().find(|link| link.name == name)
    }

    /// Returns the endpoint by which the side that connects names the address.
    pub(crate) fn endpoint(&self, address: &Address) -> String {
        format!("{}{address}", self.transport.scheme())
    }
}

/// The side that opens the connections.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Direction {
    /// The pool connects to the agent.
    Forward,
    /// The agent dials the pool.
    Reverse,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Transport {
    Unix,
    Tcp,
    Tls,
    Grpc,
    Grpcs,
    GrpcUnix,
}

impl Transport {
    fn scheme(self) -> &'static str {
        match self {
            Self::Unix => "unix:",
            Self::Tcp => "tcp://",
            Self::Tls => "tls://",
            Self::Grpc => "grpc://",
            Self::Grpcs => "grpcs://",
            Self::GrpcUnix => "grpc+unix://",
        }
    }

    fn is_unix(self) -> bool {
        matches!(self, Self::Unix | Self::GrpcUnix)
    }
}

/// Address of a socket that listens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Address {
    Unix(PathBuf),
    Tcp(SocketAddr),
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unix(path) => write!(f, "{}", path.display()),
            Self::Tcp(address) => address.fmt(f),
        }
    }
}

impl FromStr for Address {
    type Err = std::net::AddrParseError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text.starts_with('/') {
            return Ok(Self::Unix(text.into()));
        }
        text.parse().map(Self::Tcp)
    }
}

/// Hands out addresses that no other program uses.
///
/// Ports belong to a loopback address that follows from the process id. Outgoing connections take
/// their ports at 127.0.0.1, so none of them can occupy the port of an agent that was killed.
#[derive(Debug)]
pub(crate) struct Addresses {
    directory: PathBuf,
    host: Ipv4Addr,
    last: u16,
}

impl Addresses {
    pub(crate) fn new(directory: &Path) -> Self {
        let [.., high, low] = std::process::id().to_be_bytes();
        Self {
            directory: directory.to_owned(),
            host: Ipv4Addr::new(127, 77, high, low),
            last: 20_000,
        }
    }

    pub(crate) fn next(&mut self, transport: Transport) -> Address {
        self.last += 1;
        if transport.is_unix() {
            Address::Unix(self.directory.join(format!("{}.sock", self.last)))
        } else {
            Address::Tcp(SocketAddr::new(IpAddr::V4(self.host), self.last))
        }
    }
}
