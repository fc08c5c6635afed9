//! Doorbells: bytes on the socket that wake a peer which sleeps.
//!
//! A socket and no eventfd: with `MSG_DONTWAIT` a send never blocks, whatever the peer does with its
//! end, and its end shows that the peer is gone.

use rustix::net::SendFlags;
use std::io::{self, Read};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::task::{Context, Poll, ready};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// The socket of a link, which the runtime watches for reading only.
#[derive(Debug)]
pub(super) struct Bell(AsyncFd<UnixStream>);

impl Bell {
    /// Registers a socket that does not block.
    #[allow(deprecated, reason = "what replaces it is in tokio 1.54 only")]
    pub(super) fn new(socket: UnixStream) -> io::Result<Self> {
        AsyncFd::with_interest(socket, Interest::READABLE).map(Self)
    }

    pub(super) fn socket(&self) -> &UnixStream {
        self.0.get_ref()
    }

    /// Wakes the peer.
    pub(super) fn ring(&self) {
        let flags = SendFlags::DONTWAIT | SendFlags::NOSIGNAL;
        // If there is no room, the peer has not read earlier doorbells and will wake for those. If
        // it is gone, the receiving half finds out.
        let _ = rustix::net::send(self.socket(), &[0], flags);
    }

    /// Polls for doorbells of the peer. Returns their number, or 0 if the socket has ended.
    pub(super) fn poll_heard(&self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        let mut bells = [0; 64];
        loop {
            let mut readable = ready!(self.0.poll_read_ready(cx))?;
            match self.socket().read(&mut bells) {
                Ok(heard) => {
                    if (1..bells.len()).contains(&heard) {
                        // A short read has emptied the socket.
                        readable.clear_ready();
                    }
                    return Poll::Ready(Ok(heard));
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => readable.clear_ready(),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                // The peer has closed the socket without reading all doorbells.
                Err(error) if error.kind() == io::ErrorKind::ConnectionReset => {
                    return Poll::Ready(Ok(0));
                }
                Err(error) => return Poll::Ready(Err(error)),
            }
        }
    }

    pub(super) fn shut_down(&self) {
        // Fails only if the peer has already closed the connection.
        let _ = self.socket().shutdown(Shutdown::Both);
    }

    /// Watches the socket for receiving messages, before it becomes a doorbell.
    pub(super) fn watched(&self) -> &AsyncFd<UnixStream> {
        &self.0
    }
}
