use crate::error::AgentProtocolError;
use std::fmt;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

/// Where an agent is found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Endpoint {
    /// A Unix socket: `/path` or `unix:/path`.
    Unix(PathBuf),
}

/// What the kernel's `sockaddr_un` holds, without the final zero byte.
const MAX_SOCKET_PATH: usize = 107;

impl Endpoint {
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
}

impl FromStr for Endpoint {
    type Err = AgentProtocolError;

    fn from_str(endpoint: &str) -> Result<Self, Self::Err> {
        let path = match endpoint.strip_prefix("unix:") {
            Some(path) => path.strip_prefix("//").unwrap_or(path),
            None if endpoint.starts_with('/') => endpoint,
            None => {
                return Err(AgentProtocolError::InvalidEndpoint {
                    endpoint: endpoint.to_owned(),
                    reason: "expected /path or unix:/path",
                });
            }
        };
        Self::from_path(Path::new(path)).map(|path| Self::Unix(path.to_owned()))
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unix(path) => write!(f, "{}", path.display()),
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
    fn everything_else_is_refused() {
        let long = format!("/{}", "x".repeat(107));
        for text in ["", "unix:", "waf.sock", "http://host:1", "/a\0b", &long] {
            assert!(text.parse::<Endpoint>().is_err(), "{text:?}");
        }
    }
}
