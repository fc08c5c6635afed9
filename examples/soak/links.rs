//! The links that are soaked, one line for each.

use crate::common::addresses::{Address, Addresses};

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

    /// Returns an address that no other program uses.
    pub(crate) fn next(&self, addresses: &mut Addresses) -> Address {
        match self.transport {
            Transport::Unix | Transport::GrpcUnix => addresses.next_unix(),
            _ => addresses.next_tcp(),
        }
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
}
