//! Finds out why a server closed a TLS connection. A server may reject the client's certificate
//! after the handshake; hyper then reports that the connection closed, but not why.

use crate::connection::link::LinkError;
use crate::error::TlsFailure;
use crate::transport::Stream;
use crate::transport::tls::failure_of;
use std::io;
use std::pin::Pin;
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll, ready};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// A stream that records why TLS failed on it.
#[derive(Debug)]
pub(super) struct ObservedStream {
    stream: Stream,
    tls_error: TlsErrorCell,
    /// Set once something was received from the server, which means that it has accepted the TLS
    /// handshake.
    has_read: bool,
}

/// The reason why TLS failed, once it has. Clones share it.
#[derive(Debug, Clone, Default)]
pub(super) struct TlsErrorCell(Arc<OnceLock<TlsFailure>>);

impl ObservedStream {
    pub(super) fn new(stream: Stream) -> (Self, TlsErrorCell) {
        let tls_error = TlsErrorCell::default();
        let observed = Self {
            stream,
            tls_error: tls_error.clone(),
            has_read: false,
        };
        (observed, tls_error)
    }

    /// Delays a write error until the reason for it has been read: the alert of the server may be
    /// unread or still on its way. Once the server has sent data, it has accepted the TLS
    /// handshake, and write errors are returned at once.
    fn wait_for_reason<T>(
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

impl TlsErrorCell {
    /// Returns the recorded reason in place of an error that it caused, or the error if there is
    /// none.
    pub(super) fn explain(&self, error: LinkError) -> LinkError {
        match self.0.get() {
            Some(reason) => reason.clone().into(),
            None => error,
        }
    }

    /// Records why TLS failed, if that is what the error reports.
    fn record(&self, error: io::Error) -> io::Error {
        match error.downcast::<rustls::Error>() {
            Ok(reason) => {
                // The first error is the reason, later ones are consequences.
                let _ = self.0.set(failure_of(&reason));
                io::Error::new(io::ErrorKind::InvalidData, reason)
            }
            Err(error) => error,
        }
    }
}

impl AsyncRead for ObservedStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let read = ready!(Pin::new(&mut self.stream).poll_read(cx, buf));
        self.has_read |= read.is_ok();
        Poll::Ready(read.map_err(|error| self.tls_error.record(error)))
    }
}

impl AsyncWrite for ObservedStream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(cx, buf);
        self.wait_for_reason(cx, written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write_vectored(cx, bufs);
        self.wait_for_reason(cx, written)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let flushed = Pin::new(&mut self.stream).poll_flush(cx);
        self.wait_for_reason(cx, flushed)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
