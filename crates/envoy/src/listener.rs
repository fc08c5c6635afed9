//! The listener that accepts connections of Envoy.

use crate::agent::Shared;
use crate::config::EnvoyConfig;
use crate::connection;
use crate::counters::EnvoyCounts;
use crate::endpoint::{EnvoyEndpoint, InvalidEnvoyEndpoint};
use std::fmt;
use std::io;
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
    endpoint: EnvoyEndpoint,
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
        let parsed: EnvoyEndpoint = endpoint
            .parse()
            .map_err(|error: InvalidEnvoyEndpoint| invalid(error.reason()))?;
        let tls = match (&parsed, &config.tls) {
            (EnvoyEndpoint::Tls(..), Some(tls)) => Some(Arc::new(TlsHandshake::http2(tls)?)),
            (EnvoyEndpoint::Tls(..), None) => {
                return Err(invalid("TLS needs a certificate and its key"));
            }
            _ => None,
        };
        let socket = match &parsed {
            EnvoyEndpoint::Tcp(host, port) | EnvoyEndpoint::Tls(host, port) => {
                StreamSocket::tcp(host, *port).await
            }
            EnvoyEndpoint::Unix(path) => StreamSocket::unix(path, config.socket_mode).await,
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
            (EnvoyEndpoint::Tcp(..), Some(address)) => format!("envoy://{address}"),
            (EnvoyEndpoint::Tls(..), Some(address)) => format!("envoys://{address}"),
            (endpoint, _) => endpoint.to_string(),
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
