//! Why a server ended TLS. It may refuse a certificate after the handshake, and HTTP/2 passes on that the connection has
//! ended, but not why.

use super::stream::Stream;
use std::io;
use std::pin::Pin;
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// A stream that notes why TLS failed on it.
#[derive(Debug)]
pub(super) struct Observed {
    stream: Stream,
    tls_end: TlsEnd,
    /// Whether the server has said anything; TLS has come up then.
    has_read: bool,
}

/// Why TLS failed, once it has.
#[derive(Debug, Clone, Default)]
pub(super) struct TlsEnd(Arc<OnceLock<rustls::Error>>);

impl Observed {
    pub(super) fn new(stream: Stream) -> (Self, TlsEnd) {
        let tls_end = TlsEnd::default();
        let observed = Self {
            stream,
            tls_end: tls_end.clone(),
            has_read: false,
        };
        (observed, tls_end)
    }

    /// Waits for the reason where nothing can be written: it may have come, or be about to, without having been read.
    fn observe<T>(
        &mut self,
        cx: &mut Context<'_>,
        written: Poll<io::Result<T>>,
    ) -> Poll<io::Result<T>> {
        if self.has_read || !matches!(written, Poll::Ready(Err(_))) {
            return written;
        }
        let mut byte = [0];
        match Pin::new(self).poll_read(cx, &mut ReadBuf::new(&mut byte)) {
            Poll::Ready(_) => written,
            Poll::Pending => Poll::Pending,
        }
    }
}

impl TlsEnd {
    /// The reason, in the place of an error that came of it.
    pub(super) fn explain(&self, error: io::Error) -> io::Error {
        match self.0.get() {
            Some(reason) => io::Error::new(io::ErrorKind::InvalidData, reason.clone()),
            None => error,
        }
    }

    fn note(&self, error: &io::Error) {
        let cause = error.get_ref().and_then(|cause| cause.downcast_ref());
        if let Some(reason) = cause {
            let reason: &rustls::Error = reason;
            // What comes later is a consequence.
            let _ = self.0.set(reason.clone());
        }
    }
}

impl AsyncRead for Observed {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let read = Pin::new(&mut self.stream).poll_read(cx, buf);
        match &read {
            Poll::Ready(Ok(())) => self.has_read = true,
            Poll::Ready(Err(error)) => self.tls_end.note(error),
            Poll::Pending => {}
        }
        read
    }
}

impl AsyncWrite for Observed {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(cx, buf);
        self.observe(cx, written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write_vectored(cx, bufs);
        self.observe(cx, written)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let flushed = Pin::new(&mut self.stream).poll_flush(cx);
        self.observe(cx, flushed)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
