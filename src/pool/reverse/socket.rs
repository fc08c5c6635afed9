//! The sockets of a listener.

use super::peer::{Peer, User};
use crate::connection::link::Link;
use crate::error::ConnectError;
#[cfg(feature = "__sim")]
use crate::transport::simulated;
#[cfg(feature = "tls")]
use crate::transport::tls;
use crate::transport::{SocketFile, split_unix, tcp};
use futures_util::future::BoxFuture;
use std::fmt;
use std::future::ready;
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
#[cfg(feature = "tls")]
use std::sync::Arc;
use tokio::net::{TcpListener, UnixListener};

/// The socket of a listener. A socket file is removed when this is dropped.
#[derive(Debug)]
pub(super) enum Socket {
    Unix {
        listener: UnixListener,
        _file: SocketFile,
    },
    Tcp(TcpListener),
    #[cfg(feature = "tls")]
    Tls {
        listener: TcpListener,
        acceptor: Arc<tls::Acceptor>,
    },
    #[cfg(feature = "__sim")]
    Simulated(Box<dyn simulated::Listener>),
}

/// The address of a listener.
#[derive(Debug, Clone)]
pub(super) enum ListenAddress {
    Unix(PathBuf),
    Tcp(SocketAddr),
    #[cfg(feature = "tls")]
    Tls(SocketAddr),
    #[cfg(feature = "__sim")]
    Simulated,
}

/// An accepted connection, before anything was received on it.
pub(super) struct IncomingConnection {
    pub(super) peer: Peer,
    /// Completes the TLS handshake, if there is one.
    pub(super) established: BoxFuture<'static, Result<(Link, TlsIdentity), ConnectError>>,
}

/// Identity of the peer that the TLS handshake has shown.
#[derive(Debug)]
pub(super) enum TlsIdentity {
    None,
    #[cfg(feature = "tls")]
    Certificate(rustls::pki_types::CertificateDer<'static>),
}

impl Socket {
    /// Accepts the next connection.
    pub(super) async fn accept(&self) -> io::Result<IncomingConnection> {
        let (peer, link) = match self {
            Self::Unix { listener, .. } => {
                let (stream, _) = listener.accept().await?;
                let credentials = stream.peer_cred()?;
                let (uid, gid) = (credentials.uid(), credentials.gid());
                (Peer::user(User { uid, gid }), split_unix(stream))
            }
            Self::Tcp(listener) => {
                let (stream, address) = listener.accept().await?;
                (Peer::at(address), tcp::split_tcp(tcp::configure(stream)?))
            }
            #[cfg(feature = "tls")]
            Self::Tls { listener, acceptor } => {
                let (stream, address) = listener.accept().await?;
                let (stream, acceptor) = (tcp::configure(stream)?, Arc::clone(acceptor));
                let established = async move {
                    let (link, certificate) = acceptor.accept(stream).await?;
                    let identity = certificate.map_or(TlsIdentity::None, TlsIdentity::Certificate);
                    Ok((link, identity))
                };
                return Ok(IncomingConnection {
                    peer: Peer::at(address),
                    established: Box::pin(established),
                });
            }
            #[cfg(feature = "__sim")]
            Self::Simulated(listener) => {
                let root = Peer::user(User { uid: 0, gid: 0 });
                (root, simulated::link(listener.accept().await?))
            }
        };
        Ok(IncomingConnection {
            peer,
            established: Box::pin(ready(Ok((link, TlsIdentity::None)))),
        })
    }
}

impl TlsIdentity {
    /// Returns whether the certificate is valid for a name; `None` if there is no certificate.
    pub(super) fn is_valid_for(&self, name: &str) -> Option<bool> {
        match self {
            Self::None => {
                let _ = name;
                None
            }
            #[cfg(feature = "tls")]
            Self::Certificate(certificate) => Some(tls::is_valid_for(certificate, name)),
        }
    }
}

impl fmt::Display for ListenAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unix(path) => path.display().fmt(f),
            Self::Tcp(address) => write!(f, "tcp://{address}"),
            #[cfg(feature = "tls")]
            Self::Tls(address) => write!(f, "tls://{address}"),
            #[cfg(feature = "__sim")]
            Self::Simulated => f.write_str("sim:proxy"),
        }
    }
}
