//! Sockets for listeners of other protocols.

use super::inherited::ListeningSocket;
use crate::transport::{BACKLOG, Existing, SocketFile, Stream, tcp};
use std::io;
use std::net::SocketAddr;
use std::path::Path;
use tokio::net::TcpListener;

/// A listening socket for a [`Listener`](super::Listener) of another protocol, with the options
/// that the server's own sockets have.
///
/// A socket file that no process listens at is replaced, and it is removed when this is dropped.
#[derive(Debug)]
pub struct StreamSocket {
    socket: ListeningSocket,
    /// Removes the socket file when the socket is dropped.
    _file: Option<SocketFile>,
}

impl StreamSocket {
    /// Listens at a TCP port. With port 0 the system chooses one.
    ///
    /// # Errors
    ///
    /// The host has no address, or a system call fails.
    pub async fn tcp(host: &str, port: u16) -> io::Result<Self> {
        Ok(Self {
            socket: ListeningSocket::Tcp(TcpListener::bind((host, port)).await?),
            _file: None,
        })
    }

    /// Listens at a path. The socket file has the mode `mode`, and at no time a more permissive
    /// one.
    ///
    /// # Errors
    ///
    /// Another process listens there, the path is a file that is not a socket, or a system call
    /// fails.
    pub async fn unix(path: &Path, mode: u32) -> io::Result<Self> {
        let (listener, file) = SocketFile::listen(path, mode, BACKLOG, Existing::Respected).await?;
        Ok(Self {
            socket: ListeningSocket::Unix(listener),
            _file: Some(file),
        })
    }

    /// Accepts the next connection. Loses none if the future is dropped.
    ///
    /// # Errors
    ///
    /// A system call fails, for example since the process has no free file descriptor.
    pub async fn accept(&self) -> io::Result<Stream> {
        Ok(match &self.socket {
            ListeningSocket::Tcp(listener) => {
                Stream::tcp(tcp::configure(listener.accept().await?.0)?)
            }
            ListeningSocket::Unix(listener) => Stream::unix(listener.accept().await?.0),
        })
    }

    /// Returns the address of a TCP socket; `None` for a Unix socket.
    pub fn address(&self) -> Option<SocketAddr> {
        match &self.socket {
            ListeningSocket::Tcp(listener) => listener.local_addr().ok(),
            ListeningSocket::Unix(_) => None,
        }
    }
}
