//! Addresses that the processes of a run listen at.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::str::FromStr;

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

    pub(crate) fn next_unix(&mut self) -> Address {
        self.last += 1;
        Address::Unix(self.directory.join(format!("{}.sock", self.last)))
    }

    pub(crate) fn next_tcp(&mut self) -> Address {
        self.last += 1;
        Address::Tcp(SocketAddr::new(IpAddr::V4(self.host), self.last))
    }
}
