//! The data that HTTP/2 holds for a connection: not read by its stream, or not sent.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::task::{Context, Poll};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tollgate::listener::{DataCounter, Stream};

/// Bytes of a stream that Envoy may send ahead. It is small, since it is not read ahead while the
/// handler works.
pub(crate) const STREAM_WINDOW: u32 = 64 * 1024;

/// Bytes that HTTP/2 holds.
///
/// Only the task of the connection changes them, so no operation has to be atomic as a whole.
#[derive(Debug, Default)]
pub(crate) struct Buffered {
    streams: AtomicUsize,
    /// Data that arrives for a stream that has ended is counted as well, within the windows of the
    /// streams that are open.
    unread: AtomicUsize,
    /// Answers that HTTP/2 does not take yet.
    waiting: AtomicUsize,
    /// Answers that HTTP/2 has taken. Those of a stream that was reset stay counted until all are
    /// sent.
    unsent: AtomicUsize,
    /// Set while the socket takes nothing.
    is_blocked: AtomicBool,
}

impl Buffered {
    pub(crate) fn bytes(&self) -> usize {
        get(&self.unread) + get(&self.waiting) + get(&self.unsent)
    }

    /// Counts a stream that was accepted.
    pub(crate) fn begin_stream(&self) {
        change(&self.streams, |streams| streams + 1);
    }

    /// Counts the end of a stream that has left these bytes unread.
    pub(crate) fn end_stream(&self, unread: usize) {
        change(&self.streams, |streams| streams - 1);
        self.read(unread);
        let most = get(&self.streams) * STREAM_WINDOW as usize;
        change(&self.unread, |unread| unread.min(most));
    }

    fn receive(&self, bytes: usize) {
        change(&self.unread, |unread| unread + bytes);
    }

    /// Counts bytes that a stream has read.
    pub(crate) fn read(&self, bytes: usize) {
        change(&self.unread, |unread| unread.saturating_sub(bytes));
    }

    /// Counts bytes of an answer that is to be sent.
    pub(crate) fn wait(&self, bytes: usize) {
        change(&self.waiting, |waiting| waiting + bytes);
    }

    /// Counts bytes of an answer that is not sent after all.
    pub(crate) fn discard(&self, bytes: usize) {
        change(&self.waiting, |waiting| waiting - bytes);
    }

    /// Counts bytes of an answer that HTTP/2 has taken.
    pub(crate) fn take(&self, bytes: usize) {
        self.discard(bytes);
        change(&self.unsent, |unsent| unsent + bytes);
    }

    /// Called when HTTP/2 has sent what it can: all, unless the socket takes nothing.
    pub(crate) fn sent_all_it_can(&self) {
        if !self.is_blocked.load(Ordering::Relaxed) {
            change(&self.unsent, |_| 0);
        }
    }
}

fn get(count: &AtomicUsize) -> usize {
    count.load(Ordering::Relaxed)
}

fn change(count: &AtomicUsize, change: impl FnOnce(usize) -> usize) {
    count.store(change(get(count)), Ordering::Relaxed);
}

/// The stream of a connection, which counts what HTTP/2 holds.
pub(crate) struct CountedStream {
    stream: Stream,
    received: DataCounter,
    sent: DataCounter,
    buffered: Arc<Buffered>,
}

impl CountedStream {
    pub(crate) fn new(stream: Stream, buffered: &Arc<Buffered>) -> Self {
        Self {
            stream,
            received: DataCounter::of_client(),
            sent: DataCounter::of_server(),
            buffered: Arc::clone(buffered),
        }
    }

    /// Subtracts the data among the bytes that were written, if any were.
    fn count_sent<'b>(
        &mut self,
        written: &Poll<io::Result<usize>>,
        bufs: impl IntoIterator<Item = &'b [u8]>,
    ) {
        let buffered = &self.buffered;
        buffered
            .is_blocked
            .store(written.is_pending(), Ordering::Relaxed);
        let Poll::Ready(Ok(mut left)) = *written else {
            return;
        };
        for buf in bufs {
            let len = left.min(buf.len());
            left -= len;
            let sent = self.sent.count(&buf[..len]);
            change(&buffered.unsent, |unsent| unsent.saturating_sub(sent));
        }
    }
}

impl AsyncRead for CountedStream {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let before = buf.filled().len();
        let polled = Pin::new(&mut this.stream).poll_read(cx, buf);
        let data = this.received.count(&buf.filled()[before..]);
        this.buffered.receive(data);
        polled
    }
}

impl AsyncWrite for CountedStream {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let written = Pin::new(&mut this.stream).poll_write(cx, buf);
        this.count_sent(&written, [buf]);
        written
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let written = Pin::new(&mut this.stream).poll_write_vectored(cx, bufs);
        this.count_sent(&written, bufs.iter().map(|buf| &**buf));
        written
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn data_for_streams_that_have_ended_does_not_add_up() {
        let buffered = Buffered::default();
        buffered.begin_stream();
        for _ in 0..1000 {
            buffered.begin_stream();
            buffered.end_stream(0);
            buffered.receive(50_000);
        }
        buffered.begin_stream();
        buffered.end_stream(0);
        assert_eq!(buffered.bytes(), STREAM_WINDOW as usize);
        buffered.end_stream(10);
        assert_eq!(buffered.bytes(), 0);
    }
}
