//! A connection of a client that is read by the server, and watched for its end beside that.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use tokio::io::{AsyncRead, AsyncWrite, Interest, ReadBuf};
use tokio::net::TcpStream;

/// A client's connection. Clones share it.
#[derive(Debug, Clone)]
pub(crate) struct WatchedStream(Arc<TcpStream>);

impl WatchedStream {
    pub(crate) fn new(stream: TcpStream) -> Self {
        Self(Arc::new(stream))
    }

    /// Waits until the client has ended its side, whatever is unread before that. Other systems
    /// than Linux do not tell.
    #[cfg(not(target_os = "linux"))]
    pub(crate) async fn client_gone(&self) {
        std::future::pending().await
    }

    /// Waits until the client has ended its side, whatever is unread before that.
    #[cfg(target_os = "linux")]
    pub(crate) async fn client_gone(&self) {
        // No data wakes this: no urgent data is asked for, and other data is none of its matter. It
        // fails if the runtime ends.
        let _ = self.0.ready(Interest::PRIORITY).await;
    }
}

impl AsyncRead for WatchedStream {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        loop {
            ready!(self.0.poll_read_ready(cx))?;
            let room = buf.remaining();
            // Fewer bytes than there is room for were all that had arrived. Saying so saves the
            // next read, which would find nothing.
            let mut last = None;
            let read = self.0.try_io(Interest::READABLE, || {
                let read = self.0.try_read_buf(buf)?;
                if 0 < read && read < room {
                    last = Some(());
                    return Err(io::ErrorKind::WouldBlock.into());
                }
                Ok(())
            });
            match read {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock && last.is_none() => {}
                Err(error) if last.is_none() => return Poll::Ready(Err(error)),
                _ => return Poll::Ready(Ok(())),
            }
        }
    }
}

impl AsyncWrite for WatchedStream {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        data: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.poll_write_vectored(cx, &[IoSlice::new(data)])
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(socket2::SockRef::from(&*self.0).shutdown(std::net::Shutdown::Write))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        parts: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        loop {
            ready!(self.0.poll_write_ready(cx))?;
            match self.0.try_write_vectored(parts) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                written => return Poll::Ready(written),
            }
        }
    }

    fn is_write_vectored(&self) -> bool {
        true
    }
}
