use super::peer::{Peer, User};
use crate::transport::{Link, SocketFile, split_unix, tcp};
use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};

/// What a listener listens on. A socket file goes away with it.
#[derive(Debug)]
pub(super) enum Socket {
    Unix {
        listener: UnixListener,
        _file: SocketFile,
    },
    Tcp(TcpListener),
}

/// Where a listener can be found.
#[derive(Debug, Clone)]
pub(super) enum Address {
    Unix(PathBuf),
    Tcp(SocketAddr),
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
        }
    }
}

impl Visitor {
    /// What carries frames to and from the visitor.
    pub(super) fn meet(self) -> Link {
        match self.stream {
            Stream::Unix(stream) => split_unix(stream),
            Stream::Tcp(stream) => tcp::split_tcp(stream),
        }
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unix(path) => path.display().fmt(f),
            Self::Tcp(address) => write!(f, "tcp://{address}"),
        }
    }
}
