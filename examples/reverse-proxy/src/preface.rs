//! Bounds how long a connection may take to show which version of HTTP it speaks.

use pin_project_lite::pin_project;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep};

/// Bytes that a connection of HTTP/2 with prior knowledge begins with.
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

pin_project! {
    /// A connection whose reads fail if it takes longer than a time limit to send the beginning of
    /// HTTP/2 or something that cannot be it.
    pub struct PrefaceDeadline<S> {
        #[pin]
        stream: S,
        #[pin]
        deadline: Sleep,
        /// Bytes of the preface that have come.
        matched: usize,
        is_known: bool,
    }
}

impl<S> PrefaceDeadline<S> {
    /// Wraps a connection that has not been read from.
    pub fn new(stream: S, limit: Duration) -> Self {
        Self {
            stream,
            deadline: tokio::time::sleep_until(Instant::now() + limit),
            matched: 0,
            is_known: false,
        }
    }
}

impl<S: AsyncRead> AsyncRead for PrefaceDeadline<S> {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.project();
        if *this.is_known {
            return this.stream.poll_read(cx, buf);
        }
        let before = buf.filled().len();
        let Poll::Ready(read) = this.stream.poll_read(cx, buf) else {
            ready!(this.deadline.poll(cx));
            return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
        };
        read?;
        let come = &buf.filled()[before..];
        let expected = &PREFACE[*this.matched..];
        let len = come.len().min(expected.len());
        *this.matched += len;
        *this.is_known = come[..len] != expected[..len] || *this.matched == PREFACE.len();
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite> AsyncWrite for PrefaceDeadline<S> {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.project().stream.poll_write(cx, buf)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.project().stream.poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.project().stream.poll_shutdown(cx)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.project().stream.poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}
