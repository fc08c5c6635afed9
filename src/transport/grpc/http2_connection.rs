//! HTTP/2 connections of a server. Those without streams occupy a slot of the handshake limiter, so
//! newer connections can evict them.

use super::SERVER_WINDOW;
use crate::lock::lock;
use crate::memory::{MemoryAccount, MemoryBudget};
use crate::transport::{DataCounter, HandshakeLimiter, HandshakeSlot, Peer, Stream};
use atomic_waker::AtomicWaker;
use bytes::Bytes;
use http_body::{Frame, SizeHint};
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, ready};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tonic::Status;
use tonic::body::Body;
use tonic::transport::server::Connected;

/// A connection that fails with `ConnectionAborted` once it is evicted.
#[derive(Debug)]
pub(crate) struct Http2Connection {
    stream: Stream,
    state: Arc<Http2ConnectionState>,
    received: DataCounter,
    sent: DataCounter,
}

/// Memory of a connection whose streams hold nothing: its task, its socket, and the tables and
/// buffers of HTTP/2.
const CONNECTION_SIZE: usize = 32 * 1024;

/// State of a connection: its streams, or its slot in the limiter.
#[derive(Debug)]
pub(crate) struct Http2ConnectionState {
    peer: Peer,
    limiter: Arc<Mutex<HandshakeLimiter>>,
    state: Mutex<State>,
    /// Wakes the task that drives the connection, so that it polls the slot.
    connection_waker: Arc<AtomicWaker>,
}

#[derive(Debug)]
struct State {
    streams: usize,
    /// `Some` while there are no streams.
    handshake_slot: Option<HandshakeSlot>,
    account: MemoryAccount,
    /// Bytes that HTTP/2 keeps because no stream has read them, at most a window. What a stream
    /// that was reset has not read stays counted until there is one stream or none.
    unread: usize,
    /// Bytes of responses that are not yet written to the socket. What HTTP/2 discards of a stream
    /// that was reset, at most a frame, stays counted.
    unsent: usize,
}

/// Body of a request, which counts what is read of it.
#[derive(Debug)]
pub(crate) struct CountedBody {
    body: Body,
    state: Arc<Http2ConnectionState>,
}

/// A stream that is being served. Its connection cannot be evicted while this is held.
#[derive(Debug)]
pub(crate) struct StreamGuard(Arc<Http2ConnectionState>);

impl Http2Connection {
    pub(crate) fn new(stream: Stream, state: Arc<Http2ConnectionState>) -> Self {
        Self {
            stream,
            state,
            received: DataCounter::of_client(),
            sent: DataCounter::of_server(),
        }
    }

    /// Subtracts the bytes of responses among those that were written.
    fn count_sent<'b>(&mut self, written: usize, bufs: impl IntoIterator<Item = &'b [u8]>) {
        let mut left = written;
        let sent = bufs.into_iter().map(|buf| {
            let len = left.min(buf.len());
            left -= len;
            self.sent.count(&buf[..len])
        });
        let sent = sent.sum();
        if sent > 0 {
            self.state.remove_unsent(sent);
        }
    }

    /// Returns the stream, or an error if the connection is evicted.
    fn stream(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Result<Pin<&mut Stream>, io::Error> {
        let this = self.get_mut();
        match this.state.poll_evicted(cx) {
            Poll::Pending => Ok(Pin::new(&mut this.stream)),
            Poll::Ready(()) => Err(io::ErrorKind::ConnectionAborted.into()),
        }
    }
}

impl Http2ConnectionState {
    /// Creates the state of a new connection, in a slot of the limiter.
    pub(crate) fn new(
        limiter: &Arc<Mutex<HandshakeLimiter>>,
        peer: Peer,
        memory: &MemoryBudget,
    ) -> Arc<Self> {
        let connection_waker = Arc::new(AtomicWaker::new());
        let woken = Arc::clone(&connection_waker);
        let mut account = memory.open_account(move || woken.wake());
        account.set(CONNECTION_SIZE);
        Arc::new(Self {
            state: Mutex::new(State {
                streams: 0,
                handshake_slot: Some(lock(limiter).enter(peer.key)),
                account,
                unread: 0,
                unsent: 0,
            }),
            limiter: Arc::clone(limiter),
            connection_waker,
            peer,
        })
    }

    pub(crate) fn peer(&self) -> &Arc<str> {
        &self.peer.name
    }

    /// Records that a stream is being served until the returned guard is dropped.
    pub(crate) fn begin_stream(self: &Arc<Self>) -> StreamGuard {
        let mut state = lock(&self.state);
        state.streams += 1;
        state.handshake_slot = None;
        drop(state);
        StreamGuard(Arc::clone(self))
    }

    /// Charges bytes of a response until they are written to the socket.
    pub(super) fn add_unsent(&self, bytes: usize) {
        let mut state = lock(&self.state);
        state.unsent += bytes;
        state.charge();
    }

    /// Returns the charge for bytes of a response that were written, or never will be.
    pub(super) fn remove_unsent(&self, bytes: usize) {
        let mut state = lock(&self.state);
        // Answers to requests that reached no service are not charged.
        state.unsent = state.unsent.saturating_sub(bytes);
        state.charge();
    }

    /// Polls for the eviction of the connection, because of newer ones or for its memory.
    pub(crate) fn poll_evicted(&self, cx: &mut Context<'_>) -> Poll<()> {
        self.connection_waker.register(cx.waker());
        let mut state = lock(&self.state);
        if state.account.is_ended() {
            return Poll::Ready(());
        }
        match &mut state.handshake_slot {
            Some(handshake_slot) => handshake_slot.poll_evicted(cx),
            None => Poll::Pending,
        }
    }
}

impl State {
    fn set_unread(&mut self, unread: usize) {
        self.unread = unread.min(SERVER_WINDOW as usize);
        self.charge();
    }

    fn charge(&mut self) {
        self.account
            .set(CONNECTION_SIZE + self.unread + self.unsent);
    }
}

impl CountedBody {
    /// Wraps the body of a request on this connection.
    pub(crate) fn new(body: Body, state: Arc<Http2ConnectionState>) -> Self {
        Self { body, state }
    }
}

impl http_body::Body for CountedBody {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let polled = Pin::new(&mut self.body).poll_frame(cx);
        let mut state = lock(&self.state.state);
        match &polled {
            Poll::Ready(Some(Ok(frame))) => {
                let read = frame.data_ref().map_or(0, Bytes::len);
                let unread = state.unread.saturating_sub(read);
                state.set_unread(unread);
            }
            Poll::Pending if state.streams == 1 => state.set_unread(0),
            _ => {}
        }
        drop(state);
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

impl StreamGuard {
    pub(crate) fn peer(&self) -> Peer {
        self.0.peer.clone()
    }

    pub(crate) fn connection(&self) -> &Arc<Http2ConnectionState> {
        &self.0
    }
}

impl Drop for StreamGuard {
    fn drop(&mut self) {
        let mut state = lock(&self.0.state);
        state.streams -= 1;
        if state.streams == 0 {
            state.set_unread(0);
            state.handshake_slot = Some(lock(&self.0.limiter).enter(self.0.peer.key));
            drop(state);
            self.0.connection_waker.wake();
        }
    }
}

impl Connected for Http2Connection {
    type ConnectInfo = Arc<Http2ConnectionState>;

    fn connect_info(&self) -> Arc<Http2ConnectionState> {
        Arc::clone(&self.state)
    }
}

impl AsyncRead for Http2Connection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let polled = self.as_mut().stream(cx)?.poll_read(cx, buf);
        let this = self.get_mut();
        let data = this.received.count(&buf.filled()[before..]);
        if data > 0 {
            let mut state = lock(&this.state.state);
            let unread = state.unread + data;
            state.set_unread(unread);
        }
        polled
    }
}

impl AsyncWrite for Http2Connection {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = ready!(self.as_mut().stream(cx)?.poll_write(cx, buf))?;
        self.get_mut().count_sent(written, [buf]);
        Poll::Ready(Ok(written))
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = ready!(self.as_mut().stream(cx)?.poll_write_vectored(cx, bufs))?;
        self.get_mut()
            .count_sent(written, bufs.iter().map(|buf| &**buf));
        Poll::Ready(Ok(written))
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.stream(cx)?.poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_shutdown(cx)
    }
}
