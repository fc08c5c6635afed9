use super::peer::{Peer, User};
use crate::connection::link::Link;
use crate::error::ConnectError;
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

/// What a listener listens on. A socket file goes away with it.
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
}

/// Where a listener can be found.
#[derive(Debug, Clone)]
pub(super) enum Address {
    Unix(PathBuf),
    Tcp(SocketAddr),
    #[cfg(feature = "tls")]
    Tls(SocketAddr),
}

/// A connection that nobody has asked anything yet.
#[derive(Debug)]
pub(super) struct Visitor {
    pub(super) peer: Peer,
    stream: Stream,
}

#[derive(Debug)]
enum Stream {
    Unix(UnixStream),
    Tcp(TcpStream),
    #[cfg(feature = "tls")]
    Tls(TcpStream, Arc<tls::Acceptor>),
}

/// What a visitor has shown of itself before it says who it is.
#[derive(Debug)]
pub(super) enum Shown {
    Nothing,
    #[cfg(feature = "tls")]
    Certificate(rustls::pki_types::CertificateDer<'static>),
}

impl Socket {
    /// The next connection.
    pub(super) async fn accept(&self) -> io::Result<Visitor> {
        match self {
            Self::Unix { listener, .. } => {
                let (stream, _) = listener.accept().await?;
                let credentials = stream.peer_cred()?;
                let peer = Peer::user(User {
                    uid: credentials.uid(),
                    gid: credentials.gid(),
                });
                Ok(Visitor {
                    peer,
                    stream: Stream::Unix(stream),
                })
            }
            Self::Tcp(listener) => {
                let (stream, address) = listener.accept().await?;
                Ok(Visitor {
                    peer: Peer::at(address),
                    stream: Stream::Tcp(tcp::prepared(stream)?),
                })
            }
            #[cfg(feature = "tls")]
            Self::Tls { listener, acceptor } => {
                let (stream, address) = listener.accept().await?;
                Ok(Visitor {
                    peer: Peer::at(address),
                    stream: Stream::Tls(tcp::prepared(stream)?, Arc::clone(acceptor)),
                })
            }
        }
    }
}

impl Visitor {
    /// What carries frames to and from the visitor.
    pub(super) async fn meet(self) -> Result<(Link, Shown), ConnectError> {
        match self.stream {
            Stream::Unix(stream) => Ok((split_unix(stream), Shown::Nothing)),
            Stream::Tcp(stream) => Ok((tcp::split_tcp(stream), Shown::Nothing)),
            #[cfg(feature = "tls")]
            Stream::Tls(stream, acceptor) => {
                let (link, certificate) = acceptor.accept(stream).await?;
                Ok((link, certificate.map_or(Shown::Nothing, Shown::Certificate)))
            }
        }
    }
}

impl Shown {
    /// Whether the certificate, if there is one, is for this name.
    pub(super) fn is_named(&self, name: &str) -> Option<bool> {
        match self {
            Self::Nothing => {
                let _ = name;
                None
            }
            #[cfg(feature = "tls")]
            Self::Certificate(certificate) => Some(tls::is_named(certificate, name)),
        }
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unix(path) => path.display().fmt(f),
            Self::Tcp(address) => write!(f, "tcp://{address}"),
            #[cfg(feature = "tls")]
            Self::Tls(address) => write!(f, "tls://{address}"),
        }
    }
}
