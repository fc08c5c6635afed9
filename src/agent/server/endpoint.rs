//! Endpoints that a server listens at, and their sockets.

use super::inherited::{self, ListeningSocket};
use super::listener::{Incoming, Listener, Protocol, Socket};
use crate::error::{BindError, InvalidEndpoint};
#[cfg(feature = "grpc")]
use crate::transport::grpc::{GrpcAddress, Http2Connection, Security};
#[cfg(feature = "tls")]
use crate::transport::tls::{Acceptor, TlsServerConfig};
use crate::transport::{BACKLOG, Endpoint, Existing, FileIdentity, SocketFile, split_address, tcp};
use std::io;
use std::path::PathBuf;
use std::str::FromStr;
#[cfg(feature = "tls")]
use std::sync::Arc;
use tokio::net::TcpListener;
#[cfg(feature = "grpc")]
use tokio::sync::mpsc;

/// The schemes that are not those of [`Endpoint`]s, each with whether it stands for gRPC and TLS.
const SCHEMES: [(&str, bool, bool); 6] = [
    ("tcp://", false, false),
    ("tls://", false, true),
    ("systemd:", false, false),
    ("tls+systemd:", false, true),
    ("grpc+systemd:", true, false),
    ("grpcs+systemd:", true, true),
];

/// An endpoint to listen at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct ListenEndpoint {
    address: Address,
    pub(super) uses_grpc: bool,
    pub(super) uses_tls: bool,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Address {
    Unix(PathBuf),
    Tcp(String, u16),
    /// Sockets that the process was started with: all of them, or those with this name.
    Inherited(String),
}

/// Settings that the sockets of a server have in common.
#[derive(Debug)]
pub(super) struct SocketSettings {
    /// Mode of socket files.
    pub(super) mode: u32,
    /// Treatment of files at the paths of socket files.
    pub(super) existing: Existing,
    #[cfg(feature = "tls")]
    pub(super) tls: Option<TlsServerConfig>,
    /// Takes HTTP/2 connections.
    #[cfg(feature = "grpc")]
    pub(super) http2: mpsc::Sender<Http2Connection>,
}

/// A socket that a server listens at.
#[derive(Debug)]
pub(super) struct SocketListener {
    socket: ListeningSocket,
    endpoint: String,
    #[cfg(feature = "tls")]
    acceptor: Option<Arc<Acceptor>>,
    /// Takes the connections if they are HTTP/2.
    #[cfg(feature = "grpc")]
    http2: Option<mpsc::Sender<Http2Connection>>,
    /// Removes the socket file when the listener is dropped.
    file: Option<SocketFile>,
}

impl FromStr for ListenEndpoint {
    type Err = InvalidEndpoint;

    fn from_str(endpoint: &str) -> Result<Self, InvalidEndpoint> {
        let invalid = |reason| InvalidEndpoint::new(endpoint, reason);
        let scheme = SCHEMES
            .into_iter()
            .find_map(|(scheme, uses_grpc, uses_tls)| {
                Some((scheme, endpoint.strip_prefix(scheme)?, uses_grpc, uses_tls))
            });
        let Some((scheme, rest, uses_grpc, uses_tls)) = scheme else {
            return Self::of(&endpoint.parse()?)
                .ok_or_else(|| invalid("a server cannot listen there"));
        };
        if uses_grpc && !cfg!(feature = "grpc") {
            return Err(invalid("built without `grpc`"));
        }
        if uses_tls && !cfg!(feature = "tls") {
            return Err(invalid("built without `tls`"));
        }
        let address = if scheme.ends_with("systemd:") {
            Address::Inherited(rest.to_owned())
        } else {
            let (host, port) =
                split_address(rest).ok_or_else(|| invalid("expected a host and a port"))?;
            Address::Tcp(host, port)
        };
        Ok(Self {
            address,
            uses_grpc,
            uses_tls,
        })
    }
}

impl ListenEndpoint {
    fn of(endpoint: &Endpoint) -> Option<Self> {
        let (address, uses_grpc, uses_tls) = match endpoint {
            Endpoint::Unix(path) => (Address::Unix(path.clone()), false, false),
            #[cfg(feature = "grpc")]
            Endpoint::Grpc(endpoint) => {
                let address = match &endpoint.address {
                    GrpcAddress::Tcp { host, port } => Address::Tcp(host.clone(), *port),
                    GrpcAddress::Unix(path) => Address::Unix(path.clone()),
                };
                (address, true, endpoint.security == Security::Tls)
            }
            _ => return None,
        };
        Some(Self {
            address,
            uses_grpc,
            uses_tls,
        })
    }

    /// Listens at the endpoint, which was given as `text`.
    pub(super) async fn listen(
        &self,
        text: &str,
        settings: &SocketSettings,
    ) -> Result<Vec<SocketListener>, BindError> {
        let failed = |source| BindError::Listen {
            endpoint: text.to_owned(),
            source,
        };
        #[cfg(feature = "tls")]
        let acceptor = self.acceptor(text, settings)?;
        let sockets = self.open(settings).await.map_err(failed)?;
        let listener = |(socket, file): (ListeningSocket, _)| {
            if self.uses_tls && matches!(socket, ListeningSocket::Unix(_)) {
                return Err(io::Error::new(
                    io::ErrorKind::InvalidInput,
                    "TLS is not supported on Unix sockets",
                ));
            }
            Ok(SocketListener {
                endpoint: self.endpoint_of(&socket, text)?,
                socket,
                #[cfg(feature = "tls")]
                acceptor: acceptor.clone(),
                #[cfg(feature = "grpc")]
                http2: self.uses_grpc.then(|| settings.http2.clone()),
                file,
            })
        };
        let listeners: io::Result<_> = sockets.into_iter().map(listener).collect();
        listeners.map_err(failed)
    }

    async fn open(
        &self,
        settings: &SocketSettings,
    ) -> io::Result<Vec<(ListeningSocket, Option<SocketFile>)>> {
        match &self.address {
            Address::Unix(path) => {
                let (listener, file) =
                    SocketFile::listen(path, settings.mode, BACKLOG, settings.existing).await?;
                Ok(vec![(ListeningSocket::Unix(listener), Some(file))])
            }
            Address::Tcp(host, port) => {
                let listener = TcpListener::bind((host.as_str(), *port)).await?;
                Ok(vec![(ListeningSocket::Tcp(listener), None)])
            }
            Address::Inherited(name) => {
                let sockets = inherited::take(name)?;
                Ok(sockets.into_iter().map(|socket| (socket, None)).collect())
            }
        }
    }

    #[cfg(feature = "tls")]
    fn acceptor(
        &self,
        text: &str,
        settings: &SocketSettings,
    ) -> Result<Option<Arc<Acceptor>>, BindError> {
        if !self.uses_tls {
            return Ok(None);
        }
        let Some(tls) = &settings.tls else {
            return Err(InvalidEndpoint::new(text, "TLS needs a certificate and its key").into());
        };
        #[cfg(feature = "grpc")]
        if self.uses_grpc {
            return Ok(Some(Arc::new(tls.http2_acceptor()?)));
        }
        Ok(Some(Arc::new(tls.acceptor()?)))
    }

    /// Returns the endpoint at which proxies reach a socket.
    fn endpoint_of(&self, socket: &ListeningSocket, text: &str) -> io::Result<String> {
        let scheme = match (self.uses_grpc, self.uses_tls) {
            (false, false) => "tcp",
            (false, true) => "tls",
            (true, false) => "grpc",
            (true, true) => "grpcs",
        };
        Ok(match socket {
            ListeningSocket::Tcp(socket) => format!("{scheme}://{}", socket.local_addr()?),
            ListeningSocket::Unix(_) => text.to_owned(),
        })
    }
}

impl Listener for SocketListener {
    async fn accept(&self) -> io::Result<Incoming> {
        let socket = match &self.socket {
            ListeningSocket::Unix(listener) => Socket::Unix(listener.accept().await?.0),
            ListeningSocket::Tcp(listener) => {
                let stream = tcp::configure(listener.accept().await?.0)?;
                self.secure(stream)
            }
        };
        #[cfg(feature = "grpc")]
        if let Some(http2) = &self.http2 {
            return Ok(Incoming(Protocol::Grpc(socket, http2.clone())));
        }
        Ok(Incoming(Protocol::Frames(socket)))
    }

    fn endpoint(&self) -> String {
        self.endpoint.clone()
    }
}

impl SocketListener {
    /// Returns what tells whether another server has taken over the socket file, if there is one.
    pub(super) fn file_identity(&self) -> Option<FileIdentity> {
        self.file.as_ref().map(SocketFile::identity)
    }

    #[cfg_attr(not(feature = "tls"), allow(clippy::unused_self))]
    fn secure(&self, stream: tokio::net::TcpStream) -> Socket {
        #[cfg(feature = "tls")]
        if let Some(acceptor) = &self.acceptor {
            return Socket::Tls(stream, Arc::clone(acceptor));
        }
        Socket::Tcp(stream)
    }
}

#[cfg(test)]
#[path = "../../../tests/unit/agent/server/endpoint.rs"]
mod tests;
