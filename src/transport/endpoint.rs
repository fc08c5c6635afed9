//! Endpoints of agents and proxies, and their parsing.

use crate::error::InvalidEndpoint;
use crate::handler::SharedHandler;
#[cfg(feature = "grpc")]
use crate::transport::grpc::{GrpcAddress, GrpcEndpoint};
use crate::wire::Encoding;
use std::fmt;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

/// Longest path that fits into the kernel's `sockaddr_un`, without the final zero byte.
const MAX_SOCKET_PATH: usize = 107;

/// The address of an agent, or of a proxy that an agent dials.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Endpoint {
    /// A Unix socket: `/path` or `unix:/path`.
    Unix(PathBuf),
    /// A TCP port: `tcp://host:port`. The host is a name or an address; an IPv6 address is stored
    /// without its brackets.
    Tcp { host: String, port: u16 },
    /// A handler in this process, which has no form as text.
    Local(SharedHandler),
    /// A name in a simulation: `sim:name`.
    #[cfg(feature = "__sim")]
    Simulated(String),
    /// A gRPC server: a host and a port after `http://`, `https://`, `grpc://`, `grpcs://` or no
    /// scheme, or a path after `grpc+unix://`.
    #[cfg(feature = "grpc")]
    Grpc(GrpcEndpoint),
}

impl Endpoint {
    /// Returns those of the configured encodings that are offered to this endpoint. gRPC always
    /// uses protobuf.
    pub(crate) fn encodings<'c>(&self, configured: &'c [Encoding]) -> &'c [Encoding] {
        match self {
            Self::Unix(_) | Self::Tcp { .. } | Self::Local(_) => configured,
            #[cfg(feature = "__sim")]
            Self::Simulated(_) => configured,
            #[cfg(feature = "grpc")]
            Self::Grpc(_) => &[Encoding::Protobuf],
        }
    }

    /// Checks that a path can be the path of a Unix socket.
    pub(crate) fn from_path(path: &Path) -> Result<&Path, InvalidEndpoint> {
        let bytes = path.as_os_str().as_bytes();
        let reason = if bytes.is_empty() {
            "the path is empty"
        } else if bytes.len() > MAX_SOCKET_PATH {
            "the path is longer than 107 bytes, the limit for a socket"
        } else if bytes.contains(&0) {
            "the path contains a zero byte"
        } else {
            return Ok(path);
        };
        Err(InvalidEndpoint::new(path.display().to_string(), reason))
    }

    /// Parses `host:port` with a port other than 0. Returns `None` if it is invalid.
    pub(crate) fn from_address(address: &str) -> Option<Self> {
        let (host, port) = split_address(address).filter(|(_, port)| *port != 0)?;
        Some(Self::Tcp { host, port })
    }
}

/// Splits `host:port`. An IPv6 address is in brackets. Returns `None` if it is invalid.
pub(crate) fn split_address(address: &str) -> Option<(String, u16)> {
    let (host, port) = address.rsplit_once(':')?;
    let bracketed = host
        .strip_prefix('[')
        .and_then(|host| host.strip_suffix(']'));
    let is_host = |character: char| {
        character.is_ascii_alphanumeric()
            || matches!(character, '.' | '-' | '_')
            || (bracketed.is_some() && matches!(character, ':' | '%'))
    };
    let host = bracketed.unwrap_or(host);
    if host.is_empty() || !host.chars().all(is_host) {
        return None;
    }
    Some((host.to_owned(), port.parse().ok()?))
}

impl FromStr for Endpoint {
    type Err = InvalidEndpoint;

    fn from_str(endpoint: &str) -> Result<Self, Self::Err> {
        if let Some(address) = endpoint.strip_prefix("tcp://") {
            return Self::from_address(address)
                .ok_or_else(|| InvalidEndpoint::new(endpoint, "expected tcp://host:port"));
        }
        #[cfg(feature = "__sim")]
        if let Some(name) = endpoint.strip_prefix("sim:") {
            return Ok(Self::Simulated(name.to_owned()));
        }
        let path = match endpoint.strip_prefix("unix:") {
            Some(path) => path.strip_prefix("//").unwrap_or(path),
            None if endpoint.starts_with('/') => endpoint,
            None => return parse_remote(endpoint),
        };
        match Self::from_path(Path::new(path)) {
            Ok(path) => Ok(Self::Unix(path.to_owned())),
            Err(error) => Err(InvalidEndpoint::new(endpoint, error.reason())),
        }
    }
}

#[cfg(feature = "grpc")]
fn parse_remote(endpoint: &str) -> Result<Endpoint, InvalidEndpoint> {
    let endpoint =
        GrpcEndpoint::parse(endpoint).map_err(|reason| InvalidEndpoint::new(endpoint, reason))?;
    if let GrpcAddress::Unix(path) = &endpoint.address {
        Endpoint::from_path(path)?;
    }
    Ok(Endpoint::Grpc(endpoint))
}

#[cfg(not(feature = "grpc"))]
fn parse_remote(endpoint: &str) -> Result<Endpoint, InvalidEndpoint> {
    Err(InvalidEndpoint::new(
        endpoint,
        "expected /path, unix:/path or tcp://host:port; built without `grpc`",
    ))
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unix(path) => write!(f, "{}", path.display()),
            Self::Tcp { host, port } if host.contains(':') => write!(f, "tcp://[{host}]:{port}"),
            Self::Tcp { host, port } => write!(f, "tcp://{host}:{port}"),
            Self::Local(_) => f.write_str("local"),
            #[cfg(feature = "__sim")]
            Self::Simulated(name) => write!(f, "sim:{name}"),
            #[cfg(feature = "grpc")]
            Self::Grpc(endpoint) => endpoint.fmt(f),
        }
    }
}

#[cfg(test)]
#[path = "../../tests/unit/transport/endpoint.rs"]
mod tests;
