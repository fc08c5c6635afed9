//! Endpoints at which Envoy asks an agent.

use std::fmt;
use std::net::{IpAddr, Ipv6Addr};
use std::path::PathBuf;
use std::str::FromStr;

/// Longest path of a Unix socket, in bytes.
const MAX_PATH: usize = 107;

/// Longest name of a host, and longest part of it between dots, in bytes.
const MAX_NAME: usize = 253;
const MAX_LABEL: usize = 63;

/// Endpoint at which Envoy asks an agent: `envoy://host:port`, `envoys://host:port` or
/// `envoy+unix:///path`.
///
/// ```
/// use tollgate_envoy::EnvoyEndpoint;
///
/// let endpoint: EnvoyEndpoint = "envoy://[::1]:50061".parse()?;
/// assert_eq!(endpoint, EnvoyEndpoint::Tcp("::1".to_owned(), 50061));
/// # Ok::<(), tollgate_envoy::InvalidEnvoyEndpoint>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum EnvoyEndpoint {
    /// Name or IP address without brackets, and port, of HTTP/2 without encryption.
    Tcp(String, u16),
    /// Name or IP address without brackets, and port, of HTTP/2 with TLS.
    Tls(String, u16),
    /// Path of a Unix socket.
    Unix(PathBuf),
}

/// Reason why a text is no [`EnvoyEndpoint`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{reason}")]
pub struct InvalidEnvoyEndpoint {
    reason: &'static str,
}

impl InvalidEnvoyEndpoint {
    /// Returns the reason.
    pub fn reason(&self) -> &'static str {
        self.reason
    }
}

impl FromStr for EnvoyEndpoint {
    type Err = InvalidEnvoyEndpoint;

    fn from_str(text: &str) -> Result<Self, InvalidEnvoyEndpoint> {
        let parsed = if let Some(path) = text.strip_prefix("envoy+unix://") {
            parse_path(path).map(Self::Unix)
        } else if let Some(address) = text.strip_prefix("envoys://") {
            parse_address(address).map(|(host, port)| Self::Tls(host, port))
        } else if let Some(address) = text.strip_prefix("envoy://") {
            parse_address(address).map(|(host, port)| Self::Tcp(host, port))
        } else {
            Err("expected envoy://host:port, envoys://host:port or envoy+unix:///path")
        };
        parsed.map_err(|reason| InvalidEnvoyEndpoint { reason })
    }
}

impl fmt::Display for EnvoyEndpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (scheme, host, port) = match self {
            Self::Tcp(host, port) => ("envoy", host, port),
            Self::Tls(host, port) => ("envoys", host, port),
            Self::Unix(path) => return write!(f, "envoy+unix://{}", path.display()),
        };
        match host.contains(':') {
            true => write!(f, "{scheme}://[{host}]:{port}"),
            false => write!(f, "{scheme}://{host}:{port}"),
        }
    }
}

fn parse_path(path: &str) -> Result<PathBuf, &'static str> {
    match path {
        _ if !path.starts_with('/') => Err("expected envoy+unix:///path"),
        _ if path.ends_with('/') => Err("expected the path of a socket, not of a directory"),
        _ if path.len() > MAX_PATH => Err("the path of a Unix socket has at most 107 bytes"),
        _ => Ok(path.into()),
    }
}

fn parse_address(address: &str) -> Result<(String, u16), &'static str> {
    const EXPECTED: &str = "expected a host and a port, such as 127.0.0.1:50061";
    let (host, port) = address.rsplit_once(':').ok_or(EXPECTED)?;
    if host.contains('/') {
        return Err(EXPECTED);
    }
    let is_number = !port.is_empty() && port.bytes().all(|byte| byte.is_ascii_digit());
    let port = match port.parse() {
        Ok(port) if is_number => port,
        _ if is_number => return Err("a port is at most 65535"),
        _ => return Err(EXPECTED),
    };
    if let Some(host) = host.strip_prefix('[') {
        let host = host.strip_suffix(']').ok_or(EXPECTED)?;
        // A zone follows the address of an interface.
        let (address, _) = host.split_once('%').unwrap_or((host, ""));
        return match address.parse::<Ipv6Addr>() {
            Ok(_) => Ok((host.to_owned(), port)),
            Err(_) => Err("expected an IPv6 address in brackets"),
        };
    }
    if host.contains(':') {
        return Err("an IPv6 address stands in brackets, such as [::1]:50061");
    }
    match host.parse::<IpAddr>().is_ok() || is_name(host) {
        true => Ok((host.to_owned(), port)),
        false => Err("the host is neither an IP address nor a name"),
    }
}

/// Returns whether a text can be the name of a host. A name that ends in a number is not one: it
/// is meant to be an IPv4 address.
fn is_name(host: &str) -> bool {
    let name = host.strip_suffix('.').unwrap_or(host);
    let is_label = |label: &str| {
        (1..=MAX_LABEL).contains(&label.len())
            && !label.starts_with('-')
            && !label.ends_with('-')
            && label
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte))
    };
    let last = name.rsplit('.').next().unwrap_or_default();
    let ends_in_number = last.bytes().all(|byte| byte.is_ascii_digit());
    name.len() <= MAX_NAME && name.split('.').all(is_label) && !ends_in_number
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn endpoints_are_written_as_they_are_read() {
        for text in [
            "envoy://127.0.0.1:50061",
            "envoy://localhost:0",
            "envoys://[::1]:1",
            "envoy://[fe80::1%eth0]:1",
            "envoys://waf_1.example.:443",
            "envoy+unix:///run/a b.sock",
        ] {
            let endpoint: EnvoyEndpoint = text.parse().unwrap();
            assert_eq!(endpoint.to_string(), text);
        }
    }

    #[test]
    fn what_cannot_be_reached_is_no_endpoint() {
        let long_path = format!("envoy+unix:///{}", "a".repeat(107));
        let long_label = format!("envoy://{}:1", "a".repeat(64));
        let long_name = format!("envoy://{}:1", "a.".repeat(130));
        for wrong in [
            "",
            "envoy://",
            "envoy://a",
            "envoy://:1",
            "envoy://a:",
            "envoy://a:+1",
            "envoy://a:65536",
            "envoy://a b:1",
            "envoy://a\":1",
            "envoy://a/b:1",
            "envoy://tcp://a:1",
            "envoy://a..b:1",
            "envoy://-a:1",
            "envoy://999.1.1.1:1",
            "envoy://127.1:1",
            "envoy://::1:1",
            "envoy://[a]:1",
            "envoy://[::1:1",
            "envoy+unix://a",
            "envoy+unix:///run/",
            "grpc://a:1",
            &long_path,
            &long_label,
            &long_name,
        ] {
            assert!(wrong.parse::<EnvoyEndpoint>().is_err(), "{wrong}");
        }
        let longest = format!("envoy+unix:///{}", "a".repeat(106));
        assert!(longest.parse::<EnvoyEndpoint>().is_ok());
    }
}
