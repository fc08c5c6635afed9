//! The beginning of a client's connection, where hyper's server does not do what a proxy should.

use bytes::Bytes;
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
    ///
    /// The first response to a client of HTTP/1.0 names HTTP/1.1, the version of the proxy (RFC
    /// 9110, section 6.2). hyper names that of the request.
    pub(crate) struct ClientStream<S> {
        #[pin]
        stream: S,
        // Bytes that were read from the stream already.
        first: Bytes,
        #[pin]
        deadline: Sleep,
        // Bytes of the preface that have come.
        matched: usize,
        is_known: bool,
        // Bytes that were written, up to the length of a version.
        written: usize,
    }
}

/// Version that hyper names to clients of HTTP/1.0.
const OLD_VERSION: &[u8] = b"HTTP/1.0 ";

/// Version of the proxy, in as many bytes.
const VERSION: &[u8] = b"HTTP/1.1 ";

impl<S> ClientStream<S> {
    /// Wraps a connection from which these first bytes were read.
    pub(crate) fn new(stream: S, first: Bytes, limit: Duration) -> Self {
        Self {
            stream,
            first,
            deadline: tokio::time::sleep_until(Instant::now() + limit),
            matched: 0,
            is_known: false,
            written: 0,
        }
    }
}

impl<S: AsyncRead> AsyncRead for ClientStream<S> {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.project();
        let before = buf.filled().len();
        if !this.first.is_empty() {
            let len = this.first.len().min(buf.remaining());
            buf.put_slice(&this.first.split_to(len));
        } else if *this.is_known {
            return this.stream.poll_read(cx, buf);
        } else if let Poll::Ready(read) = this.stream.poll_read(cx, buf) {
            read?;
        } else {
            ready!(this.deadline.poll(cx));
            return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
        }
        let come = &buf.filled()[before..];
        let expected = &PREFACE[*this.matched..];
        let len = come.len().min(expected.len());
        *this.matched += len;
        *this.is_known = come[..len] != expected[..len] || *this.matched == PREFACE.len();
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite> AsyncWrite for ClientStream<S> {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        let this = self.project();
        let rest = &OLD_VERSION[*this.written..];
        let buf = match rest {
            [] => buf,
            rest if buf.starts_with(rest) => &VERSION[*this.written..],
            _ => {
                *this.written = VERSION.len();
                buf
            }
        };
        let written = ready!(this.stream.poll_write(cx, buf))?;
        *this.written = VERSION.len().min(*this.written + written);
        Poll::Ready(Ok(written))
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
        if self.written == VERSION.len() {
            return self.project().stream.poll_write_vectored(cx, bufs);
        }
        let first = bufs.iter().find(|buf| !buf.is_empty());
        self.poll_write(cx, first.map_or(&[], |buf| &**buf))
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}
