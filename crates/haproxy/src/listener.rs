//! Listens for HAProxy.

use crate::session::serve;
use crate::settings::SpopSettings;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tollgate::listener::{Incoming, Listener, StreamSocket};

const TCP_SCHEME: &str = "haproxy://";
const UNIX_SCHEME: &str = "haproxy+unix://";

/// Listens for HAProxy, on a TCP port or a Unix socket.
///
/// ```no_run
/// # async fn example(
/// #     handler: impl tollgate::AgentHandler,
/// # ) -> Result<(), Box<dyn std::error::Error>> {
/// use tollgate::AgentServer;
/// use tollgate_haproxy::{SpopListener, SpopSettings};
///
/// let endpoint = "haproxy://127.0.0.1:9001".parse()?;
/// let listener = SpopListener::bind(&endpoint, SpopSettings::default()).await?;
/// AgentServer::builder(handler).listen_on(listener).serve().await?;
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct SpopListener {
    socket: StreamSocket,
    endpoint: String,
    settings: Arc<SpopSettings>,
}

/// An endpoint for HAProxy: `haproxy://host:port` or `haproxy+unix:///path`.
///
/// ```
/// use tollgate_haproxy::SpopEndpoint;
///
/// assert!("haproxy://127.0.0.1:9001".parse::<SpopEndpoint>().is_ok());
/// assert!("haproxy+unix:///run/agent.sock".parse::<SpopEndpoint>().is_ok());
/// assert!("tcp://127.0.0.1:9001".parse::<SpopEndpoint>().is_err());
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SpopEndpoint(pub(crate) Address);

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Address {
    Tcp(String, u16),
    Unix(PathBuf),
}

/// Error of a text that is no endpoint for HAProxy.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("expected haproxy://host:port or haproxy+unix:///path")]
pub struct InvalidSpopEndpoint;

impl SpopEndpoint {
    /// Returns whether a text has the scheme of such an endpoint.
    pub fn is_meant(text: &str) -> bool {
        text.starts_with(TCP_SCHEME) || text.starts_with(UNIX_SCHEME)
    }

    /// Returns the address as HAProxy writes it after `server NAME`.
    pub fn server_address(&self) -> String {
        match &self.0 {
            Address::Tcp(host, port) if host.contains(':') => format!("[{host}]:{port}"),
            Address::Tcp(host, port) => format!("{host}:{port}"),
            Address::Unix(path) => format!("unix@{}", path.display()),
        }
    }
}

impl std::str::FromStr for SpopEndpoint {
    type Err = InvalidSpopEndpoint;

    fn from_str(text: &str) -> Result<Self, InvalidSpopEndpoint> {
        if let Some(path) = text.strip_prefix(UNIX_SCHEME) {
            let path = Path::new(path);
            let address = path.is_absolute().then(|| Address::Unix(path.to_owned()));
            return address.map(Self).ok_or(InvalidSpopEndpoint);
        }
        let address = text.strip_prefix(TCP_SCHEME).ok_or(InvalidSpopEndpoint)?;
        let (host, port) = address.rsplit_once(':').ok_or(InvalidSpopEndpoint)?;
        let port = port.parse().map_err(|_| InvalidSpopEndpoint)?;
        let inner = host.strip_prefix('[').and_then(|it| it.strip_suffix(']'));
        let is_valid = match inner {
            Some(inner) => inner.parse::<std::net::Ipv6Addr>().is_ok(),
            None => !host.is_empty() && !host.contains([':', '/', '[', ']']),
        };
        let host = inner.unwrap_or(host).to_owned();
        is_valid
            .then_some(Self(Address::Tcp(host, port)))
            .ok_or(InvalidSpopEndpoint)
    }
}

impl SpopListener {
    /// Listens at an endpoint. Only processes of the same user may connect to a Unix socket.
    ///
    /// # Errors
    ///
    /// Those of [`StreamSocket::tcp`] and [`StreamSocket::unix`].
    pub async fn bind(endpoint: &SpopEndpoint, settings: SpopSettings) -> io::Result<Self> {
        let (socket, endpoint) = match &endpoint.0 {
            Address::Tcp(host, port) => {
                let socket = StreamSocket::tcp(host, *port).await?;
                let address = socket.address().map(|address| address.to_string());
                let endpoint = format!("{TCP_SCHEME}{}", address.unwrap_or_default());
                (socket, endpoint)
            }
            Address::Unix(path) => {
                let socket = StreamSocket::unix(path, 0o600).await?;
                (socket, format!("{UNIX_SCHEME}{}", path.display()))
            }
        };
        Ok(Self {
            socket,
            endpoint,
            settings: Arc::new(settings),
        })
    }
}

impl Listener for SpopListener {
    async fn accept(&self) -> io::Result<Incoming> {
        let stream = self.socket.accept().await?.watched_for_input()?;
        let settings = Arc::clone(&self.settings);
        Ok(Incoming::session(|session| async move {
            serve(stream, session, &settings).await;
        }))
    }

    fn endpoint(&self) -> String {
        self.endpoint.clone()
    }
}
