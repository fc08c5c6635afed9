//! A connection that the runtime watches for input.

use std::io::{self, IoSlice, Read, Write};
use std::net::Shutdown;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use tokio::io::unix::AsyncFd;
use tokio::io::{AsyncRead, AsyncWrite, Interest, ReadBuf};

/// A socket that is watched for output only while a write has to wait. One that always is wakes the
/// thread each time that the peer has read something, with nothing to do.
pub(super) struct QuietStream {
    /// Of any family: those of Unix and TCP are read and written alike.
    input: AsyncFd<UnixStream>,
    /// Set while a write waits.
    output: Option<AsyncFd<OwnedFd>>,
}

impl QuietStream {
    /// Watches a socket that does not block.
    pub(super) fn new(socket: OwnedFd) -> io::Result<Self> {
        Ok(Self {
            input: watch(socket.into(), Interest::READABLE)?,
            output: None,
        })
    }

    fn poll_output(
        &mut self,
        cx: &mut Context<'_>,
        write: impl Fn(&UnixStream) -> io::Result<usize>,
    ) -> Poll<io::Result<usize>> {
        loop {
            match write(self.input.get_ref()) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                written => {
                    self.output = None;
                    return Poll::Ready(written);
                }
            }
            let output = match &self.output {
                Some(output) => output,
                None => {
                    let socket = self.input.get_ref().as_fd().try_clone_to_owned()?;
                    self.output.insert(watch(socket, Interest::WRITABLE)?)
                }
            };
            // Cleared before the next attempt: what happens after that is noticed.
            ready!(output.poll_write_ready(cx))?.clear_ready();
        }
    }
}

/// Registers a socket with the runtime.
#[allow(
    deprecated,
    reason = "what replaces it is unsafe, for types that may close the file: these do not"
)]
fn watch<S: AsRawFd>(socket: S, interest: Interest) -> io::Result<AsyncFd<S>> {
    AsyncFd::with_interest(socket, interest)
}

impl AsyncRead for QuietStream {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        loop {
            let mut ready = ready!(self.input.poll_read_ready(cx))?;
            let space = buffer.initialize_unfilled();
            match self.input.get_ref().read(space) {
                Ok(len) => {
                    // A short read has taken all that there was.
                    if len > 0 && len < space.len() {
                        ready.clear_ready();
                    }
                    buffer.advance(len);
                    return Poll::Ready(Ok(()));
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => ready.clear_ready(),
                Err(error) => return Poll::Ready(Err(error)),
            }
        }
    }
}

impl AsyncWrite for QuietStream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.poll_output(cx, |mut socket| socket.write(bytes))
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.poll_output(cx, |mut socket| socket.write_vectored(slices))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(self.input.get_ref().shutdown(Shutdown::Write))
    }
}
