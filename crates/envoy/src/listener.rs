//! The listener that accepts connections of Envoy.

use crate::agent::Shared;
use crate::config::EnvoyConfig;
use crate::connection;
use crate::counters::EnvoyCounts;
use std::fmt;
use std::io;
use std::path::PathBuf;
use std::str::FromStr;
use std::sync::Arc;
use tollgate::error::InvalidTls;
use tollgate::listener::{Incoming, Listener, StreamSocket, TlsHandshake};

/// Accepts connections of Envoy, for
/// [`AgentServerBuilder::listen_on`](tollgate::AgentServerBuilder::listen_on).
///
/// | endpoint | listens at |
/// |---|---|
/// | `envoy://host:port` | a TCP port, HTTP/2 without encryption |
/// | `envoys://host:port` | a TCP port with TLS, see [`EnvoyConfig::tls`] |
/// | `envoy+unix:///path` | a Unix socket |
///
/// Each of them serves `envoy.service.ext_proc.v3.ExternalProcessor`,
/// `envoy.service.auth.v3.Authorization`, `grpc.health.v1.Health` and reflection.
pub struct EnvoyListener {
    socket: StreamSocket,
    endpoint: Endpoint,
    tls: Option<Arc<TlsHandshake>>,
    shared: Arc<Shared>,
}

/// Error of [`EnvoyListener::bind`].
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum EnvoyBindError {
    /// The endpoint is not one of those that Envoy's protocols have.
    #[error("invalid endpoint '{endpoint}': {reason}")]
    InvalidEndpoint {
        /// The endpoint.
        endpoint: String,
        /// Reason why it cannot be used.
        reason: &'static str,
    },
    /// The certificates are not usable.
    #[error(transparent)]
    InvalidTls(#[from] InvalidTls),
    /// Another process listens there, or a system call fails.
    #[error("cannot listen on '{endpoint}'")]
    Listen {
        /// The endpoint.
        endpoint: String,
        /// Cause of the failure.
        source: io::Error,
    },
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Endpoint {
    Tcp(String, u16),
    Tls(String, u16),
    Unix(PathBuf),
}

impl EnvoyListener {
    /// Listens at an endpoint. Envoy can connect once the server
    /// [serves](tollgate::AgentServer::serve_until).
    ///
    /// # Errors
    ///
    /// [`EnvoyBindError`] if the endpoint or the certificate is not usable, or a system call fails.
    pub async fn bind(endpoint: &str, config: EnvoyConfig) -> Result<Self, EnvoyBindError> {
        let invalid = |reason| EnvoyBindError::InvalidEndpoint {
            endpoint: endpoint.to_owned(),
            reason,
        };
        let failed = |source| EnvoyBindError::Listen {
            endpoint: endpoint.to_owned(),
            source,
        };
        let parsed: Endpoint = endpoint.parse().map_err(invalid)?;
        let tls = match (&parsed, &config.tls) {
            (Endpoint::Tls(..), Some(tls)) => Some(Arc::new(TlsHandshake::http2(tls)?)),
            (Endpoint::Tls(..), None) => {
                return Err(invalid("TLS needs a certificate and its key"));
            }
            _ => None,
        };
        let socket = match &parsed {
            Endpoint::Tcp(host, port) | Endpoint::Tls(host, port) => {
                StreamSocket::tcp(host, *port).await
            }
            Endpoint::Unix(path) => StreamSocket::unix(path, config.socket_mode).await,
        };
        Ok(Self {
            socket: socket.map_err(failed)?,
            endpoint: parsed,
            tls,
            shared: Arc::new(Shared::new(config)),
        })
    }

    /// Returns a handle to the counts of this listener.
    pub fn counters(&self) -> EnvoyCounters {
        EnvoyCounters(Arc::clone(&self.shared))
    }
}

/// Handle to the counts of an [`EnvoyListener`].
#[derive(Debug, Clone)]
pub struct EnvoyCounters(Arc<Shared>);

impl EnvoyCounters {
    /// Returns the counts of now.
    pub fn get(&self) -> EnvoyCounts {
        self.0.counters.snapshot()
    }
}

impl Listener for EnvoyListener {
    async fn accept(&self) -> io::Result<Incoming> {
        let stream = self.socket.accept().await?;
        let (tls, shared) = (self.tls.clone(), Arc::clone(&self.shared));
        Ok(Incoming::session(move |session| {
            connection::serve(session, stream, tls, shared)
        }))
    }

    fn endpoint(&self) -> String {
        match (&self.endpoint, self.socket.address()) {
            (Endpoint::Tcp(..), Some(address)) => format!("envoy://{address}"),
            (Endpoint::Tls(..), Some(address)) => format!("envoys://{address}"),
            (endpoint, _) => endpoint.to_string(),
        }
    }
}

impl FromStr for Endpoint {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, &'static str> {
        if let Some(path) = text.strip_prefix("envoy+unix://") {
            return match path.starts_with('/') {
                true => Ok(Self::Unix(path.into())),
                false => Err("expected envoy+unix:///path"),
            };
        }
        let (is_tls, rest) = match (
            text.strip_prefix("envoys://"),
            text.strip_prefix("envoy://"),
        ) {
            (Some(rest), _) => (true, rest),
            (_, Some(rest)) => (false, rest),
            _ => return Err("expected envoy://, envoys:// or envoy+unix://"),
        };
        let (host, port) = rest.rsplit_once(':').ok_or("expected a host and a port")?;
        let port = port.parse().map_err(|_| "expected a host and a port")?;
        let host = host
            .strip_prefix('[')
            .and_then(|host| host.strip_suffix(']'))
            .unwrap_or(host);
        if host.is_empty() || host.contains('/') {
            return Err("expected a host and a port");
        }
        Ok(match is_tls {
            true => Self::Tls(host.to_owned(), port),
            false => Self::Tcp(host.to_owned(), port),
        })
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(host, port) => write!(f, "envoy://{host}:{port}"),
            Self::Tls(host, port) => write!(f, "envoys://{host}:{port}"),
            Self::Unix(path) => write!(f, "envoy+unix://{}", path.display()),
        }
    }
}

impl fmt::Debug for EnvoyListener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EnvoyListener")
            .field("endpoint", &self.endpoint)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn endpoints() {
        let tcp = Endpoint::Tcp("127.0.0.1".to_owned(), 50061);
        assert_eq!("envoy://127.0.0.1:50061".parse(), Ok(tcp));
        assert_eq!(
            "envoys://[::1]:1".parse(),
            Ok(Endpoint::Tls("::1".to_owned(), 1))
        );
        let unix = Endpoint::Unix("/run/a.sock".into());
        assert_eq!("envoy+unix:///run/a.sock".parse(), Ok(unix));
        for wrong in [
            "",
            "envoy://",
            "envoy://a",
            "envoy://:1",
            "envoy+unix://a",
            "grpc://a:1",
        ] {
            assert!(wrong.parse::<Endpoint>().is_err(), "{wrong}");
        }
    }
}
