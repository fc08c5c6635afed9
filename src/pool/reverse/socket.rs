//! The sockets of a listener.

use super::peer::{Peer, User};
use crate::connection::link::Link;
use crate::error::ConnectError;
#[cfg(feature = "__sim")]
use crate::transport::simulated;
#[cfg(feature = "tls")]
use crate::transport::tls;
use crate::transport::{SocketFile, split_unix, tcp};
use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
#[cfg(feature = "tls")]
use std::sync::Arc;
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};

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
#[derive(Debug)]
pub(super) struct IncomingConnection {
    pub(super) peer: Peer,
    stream: AcceptedSocket,
}

/// The socket of an accepted connection, and what is needed to establish its link.
#[derive(Debug)]
enum AcceptedSocket {
    Unix(UnixStream),
    Tcp(TcpStream),
    #[cfg(feature = "tls")]
    Tls(TcpStream, Arc<tls::Acceptor>),
    #[cfg(feature = "__sim")]
    Simulated(simulated::Stream),
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
        match self {
            Self::Unix { listener, .. } => {
                let (stream, _) = listener.accept().await?;
                let credentials = stream.peer_cred()?;
                let peer = Peer::user(User {
                    uid: credentials.uid(),
                    gid: credentials.gid(),
                });
                Ok(IncomingConnection {
                    peer,
                    stream: AcceptedSocket::Unix(stream),
                })
            }
            Self::Tcp(listener) => {
                let (stream, address) = listener.accept().await?;
                Ok(IncomingConnection {
                    peer: Peer::at(address),
                    stream: AcceptedSocket::Tcp(tcp::configure(stream)?),
                })
            }
            #[cfg(feature = "tls")]
            Self::Tls { listener, acceptor } => {
                let (stream, address) = listener.accept().await?;
                Ok(IncomingConnection {
                    peer: Peer::at(address),
                    stream: AcceptedSocket::Tls(tcp::configure(stream)?, Arc::clone(acceptor)),
                })
            }
            #[cfg(feature = "__sim")]
            Self::Simulated(listener) => Ok(IncomingConnection {
                peer: Peer::user(User { uid: 0, gid: 0 }),
                stream: AcceptedSocket::Simulated(listener.accept().await?),
            }),
        }
    }
}

impl IncomingConnection {
    /// Completes the TLS handshake, if there is one, and returns the link.
    pub(super) async fn establish(self) -> Result<(Link, TlsIdentity), ConnectError> {
        match self.stream {
            AcceptedSocket::Unix(stream) => Ok((split_unix(stream), TlsIdentity::None)),
            AcceptedSocket::Tcp(stream) => Ok((tcp::split_tcp(stream), TlsIdentity::None)),
            #[cfg(feature = "tls")]
            AcceptedSocket::Tls(stream, acceptor) => {
                let (link, certificate) = acceptor.accept(stream).await?;
                Ok((
                    link,
                    certificate.map_or(TlsIdentity::None, TlsIdentity::Certificate),
                ))
            }
            #[cfg(feature = "__sim")]
            AcceptedSocket::Simulated(stream) => Ok((simulated::link(stream), TlsIdentity::None)),
        }
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
