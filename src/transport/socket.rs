//! Links over stream sockets.

use crate::connection::link::{
    Batch, Link, LinkError, LinkPoll, LinkReceiver, LinkSender, MAX_SLICES,
};
use crate::wire::MAX_FRAME_LEN;
use bytes::BytesMut;
use rustix::event::{PollFd, PollFlags};
use socket2::SockRef;
use std::io::{self, IoSlice};
use std::net::Shutdown;
use std::os::fd::{AsFd, BorrowedFd};
use std::pin::pin;
use std::task::{Context, Poll};
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::net::{tcp, unix};

/// Makes the halves of a stream socket a link.
pub(super) fn link(write: impl WriteHalf, read: impl AsyncRead + Send + Unpin + 'static) -> Link {
    link_of(write, SocketReceiver(read))
}

/// Makes a sending half and a link's receiving half a link.
pub(super) fn link_of(write: impl WriteHalf, receiver: impl LinkReceiver) -> Link {
    Link {
        sender: Box::new(SocketSender(write)),
        receiver: Box::new(receiver),
        max_frame: MAX_FRAME_LEN,
    }
}

/// The sending half of a stream socket.
struct SocketSender<W>(W);

/// The receiving half of a stream socket.
pub(super) struct SocketReceiver<R>(pub(super) R);

/// The operations that a [`SocketSender`] needs, for each kind of socket.
pub(crate) trait WriteHalf: Send + Sync + 'static {
    fn try_write_vectored(&self, slices: &[IoSlice<'_>]) -> io::Result<usize>;
    fn poll_write_ready(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>>;
    fn shut_down(&self) -> io::Result<()>;
    fn is_hung_up(&self) -> bool;

    /// Drops this half without ending the stream.
    fn hand_over(self)
    where
        Self: Sized,
    {
    }
}

/// The receiving half of a Unix socket.
pub(crate) trait UnixReadHalf: AsyncRead + Send + Unpin + 'static {
    fn socket(&self) -> BorrowedFd<'_>;
}

impl UnixReadHalf for unix::OwnedReadHalf {
    fn socket(&self) -> BorrowedFd<'_> {
        self.as_ref().as_fd()
    }
}

impl UnixReadHalf for unix::pipe::Receiver {
    fn socket(&self) -> BorrowedFd<'_> {
        self.as_fd()
    }
}

macro_rules! write_halves {
    ($($half:ty),*) => {$(
        impl WriteHalf for $half {
            fn try_write_vectored(&self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
                Self::try_write_vectored(self, slices)
            }

            fn poll_write_ready(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
                self.as_ref().poll_write_ready(cx)
            }

            fn shut_down(&self) -> io::Result<()> {
                SockRef::from(self.as_ref()).shutdown(Shutdown::Both)
            }

            fn is_hung_up(&self) -> bool {
                is_hung_up(self.as_ref())
            }

            fn hand_over(self) {
                // Dropping it would end the direction.
                self.forget();
            }
        }
    )*};
}

write_halves!(unix::OwnedWriteHalf, tcp::OwnedWriteHalf);

impl<W: WriteHalf> LinkSender for SocketSender<W> {
    fn try_send(&self, batch: &mut Batch, recycle: &dyn Fn(Vec<u8>)) -> Result<(), LinkError> {
        while !batch.is_empty() {
            let mut slices = [IoSlice::new(&[]); MAX_SLICES];
            let filled = batch.fill(&mut slices);
            match self.0.try_write_vectored(&slices[..filled]) {
                Ok(sent) => batch.advance(sent, recycle),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }

    fn poll_room(&self, cx: &mut Context<'_>) -> LinkPoll<()> {
        self.0.poll_write_ready(cx).map_err(LinkError::from)
    }

    fn close(&self) {
        // Fails only if the peer has already closed the connection.
        let _ = self.0.shut_down();
    }

    fn is_peer_gone(&self) -> bool {
        self.0.is_hung_up()
    }

    fn hand_over(self: Box<Self>) {
        self.0.hand_over();
    }
}

/// Returns whether a socket is closed in both directions, or has failed.
pub(super) fn is_hung_up(socket: &impl AsFd) -> bool {
    let mut polled = [PollFd::new(socket, PollFlags::empty())];
    let now = rustix::event::Timespec::default();
    // Fails only if the system has no memory. Then the socket is asked again later.
    rustix::event::poll(&mut polled, Some(&now)).is_ok()
        && polled[0]
            .revents()
            .intersects(PollFlags::HUP | PollFlags::ERR)
}

impl<R: AsyncRead + Send + Unpin + 'static> LinkReceiver for SocketReceiver<R> {
    fn poll_receive(&mut self, cx: &mut Context<'_>, into: &mut BytesMut) -> LinkPoll<usize> {
        // `read_buf` keeps no state between polls, so each poll may create a new future.
        pin!(self.0.read_buf(into))
            .poll(cx)
            .map_err(LinkError::from)
    }
}
