use crate::error::AgentProtocolError;
#[cfg(feature = "grpc")]
use crate::transport::grpc::{Address, GrpcPlace};
use crate::wire::Encoding;
use std::fmt;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

/// Where an agent is found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Endpoint {
    /// A Unix socket: `/path` or `unix:/path`.
    Unix(PathBuf),
    /// A TCP port: `tcp://host:port`. The host is a name or an address, without the brackets of IPv6.
    Tcp { host: String, port: u16 },
    /// A gRPC server: `http://`, `https://`, `grpc://`, `grpcs://` or nothing before a host and a port, or
    /// `grpc+unix://` before a path.
    #[cfg(feature = "grpc")]
    Grpc(GrpcPlace),
}

/// What the kernel's `sockaddr_un` holds, without the final zero byte.
const MAX_SOCKET_PATH: usize = 107;

impl Endpoint {
    /// The encodings that are offered there, of those that are configured.
    pub(crate) fn encodings<'c>(&self, configured: &'c [Encoding]) -> &'c [Encoding] {
        match self {
            Self::Unix(_) | Self::Tcp { .. } => configured,
            #[cfg(feature = "grpc")]
            Self::Grpc(_) => &[Encoding::Protobuf],
        }
    }

    /// Checks that a path can be a socket's.
    pub(crate) fn from_path(path: &Path) -> Result<&Path, AgentProtocolError> {
        let bytes = path.as_os_str().as_bytes();
        let reason = if bytes.is_empty() {
            "the path is empty"
        } else if bytes.len() > MAX_SOCKET_PATH {
            "the path is longer than the 107 bytes a socket address holds"
        } else if bytes.contains(&0) {
            "the path has a zero byte"
        } else {
            return Ok(path);
        };
        Err(AgentProtocolError::InvalidEndpoint {
            endpoint: path.display().to_string(),
            reason,
        })
    }

    /// Reads `host:port`; an IPv6 address has brackets.
    pub(crate) fn from_address(address: &str) -> Option<Self> {
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
        let port = port.parse().ok().filter(|port| *port != 0)?;
        Some(Self::Tcp {
            host: host.to_owned(),
            port,
        })
    }
}

impl FromStr for Endpoint {
    type Err = AgentProtocolError;

    fn from_str(endpoint: &str) -> Result<Self, Self::Err> {
        if let Some(address) = endpoint.strip_prefix("tcp://") {
            return Self::from_address(address).ok_or_else(|| {
                AgentProtocolError::InvalidEndpoint {
                    endpoint: endpoint.to_owned(),
                    reason: "expected tcp://host:port",
                }
            });
        }
        let path = match endpoint.strip_prefix("unix:") {
            Some(path) => path.strip_prefix("//").unwrap_or(path),
            None if endpoint.starts_with('/') => endpoint,
            None => return remote(endpoint),
        };
        Self::from_path(Path::new(path)).map(|path| Self::Unix(path.to_owned()))
    }
}

#[cfg(feature = "grpc")]
fn remote(endpoint: &str) -> Result<Endpoint, AgentProtocolError> {
    let place =
        GrpcPlace::parse(endpoint).map_err(|reason| AgentProtocolError::InvalidEndpoint {
            endpoint: endpoint.to_owned(),
            reason,
        })?;
    if let Address::Unix(path) = &place.address {
        Endpoint::from_path(path)?;
    }
    Ok(Endpoint::Grpc(place))
}

#[cfg(not(feature = "grpc"))]
fn remote(endpoint: &str) -> Result<Endpoint, AgentProtocolError> {
    Err(AgentProtocolError::InvalidEndpoint {
        endpoint: endpoint.to_owned(),
        reason: "expected /path or unix:/path; this build has no gRPC",
    })
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unix(path) => write!(f, "{}", path.display()),
            Self::Tcp { host, port } if host.contains(':') => write!(f, "tcp://[{host}]:{port}"),
            Self::Tcp { host, port } => write!(f, "tcp://{host}:{port}"),
            #[cfg(feature = "grpc")]
            Self::Grpc(place) => place.fmt(f),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_with_or_without_its_scheme() {
        let expected = Endpoint::Unix("/run/waf.sock".into());
        for text in [
            "/run/waf.sock",
            "unix:/run/waf.sock",
            "unix:///run/waf.sock",
        ] {
            assert_eq!(text.parse::<Endpoint>().unwrap(), expected);
        }
        let relative = Endpoint::Unix("waf.sock".into());
        assert_eq!("unix:waf.sock".parse::<Endpoint>().unwrap(), relative);
    }

    #[test]
    fn a_host_and_a_port() {
        for text in [
            "tcp://proxy.example:7000",
            "tcp://192.0.2.7:1",
            "tcp://[2001:db8::1]:65535",
        ] {
            assert_eq!(text.parse::<Endpoint>().unwrap().to_string(), text);
        }
        for text in [
            "tcp://",
            "tcp://host",
            "tcp://:1",
            "tcp://host:0",
            "tcp://host:65536",
            "tcp://a b:1",
            "tcp://::1:1",
        ] {
            assert!(text.parse::<Endpoint>().is_err(), "{text:?}");
        }
    }

    #[test]
    fn everything_else_is_refused() {
        let long = format!("/{}", "x".repeat(107));
        for text in ["", "unix:", "waf.sock", "ftp://host:1", "/a\0b", &long] {
            assert!(text.parse::<Endpoint>().is_err(), "{text:?}");
        }
    }
}
