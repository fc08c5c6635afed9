//! HTTP/2 connections of a server. Those without streams occupy a slot of the handshake limiter, so
//! newer connections can evict them.

use super::stream::Stream;
use crate::lock::lock;
use crate::transport::{HandshakeLimiter, HandshakeSlot, Peer};
use atomic_waker::AtomicWaker;
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tonic::transport::server::Connected;

/// A connection that fails with `ConnectionAborted` once it is evicted.
#[derive(Debug)]
pub(crate) struct Http2Connection {
    stream: Stream,
    state: Arc<Http2ConnectionState>,
}

/// State of a connection: its streams, or its slot in the limiter.
#[derive(Debug)]
pub(crate) struct Http2ConnectionState {
    peer: Peer,
    limiter: Arc<Mutex<HandshakeLimiter>>,
    state: Mutex<State>,
    /// Wakes the task that drives the connection, so that it polls the slot.
    connection_waker: AtomicWaker,
}

#[derive(Debug)]
struct State {
    streams: usize,
    /// `Some` while there are no streams.
    handshake_slot: Option<HandshakeSlot>,
}

/// A stream that is being served. Its connection cannot be evicted while this is held.
#[derive(Debug)]
pub(crate) struct StreamGuard(Arc<Http2ConnectionState>);

impl Http2Connection {
    pub(crate) fn new(stream: Stream, state: Arc<Http2ConnectionState>) -> Self {
        Self { stream, state }
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
    pub(crate) fn new(limiter: &Arc<Mutex<HandshakeLimiter>>, peer: Peer) -> Arc<Self> {
        Arc::new(Self {
            state: Mutex::new(State {
                streams: 0,
                handshake_slot: Some(lock(limiter).enter(peer.key)),
            }),
            limiter: Arc::clone(limiter),
            connection_waker: AtomicWaker::new(),
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

    /// Polls for the eviction of the connection.
    pub(crate) fn poll_evicted(&self, cx: &mut Context<'_>) -> Poll<()> {
        self.connection_waker.register(cx.waker());
        match &mut lock(&self.state).handshake_slot {
            Some(handshake_slot) => handshake_slot.poll_evicted(cx),
            None => Poll::Pending,
        }
    }
}

impl StreamGuard {
    pub(crate) fn peer(&self) -> Peer {
        self.0.peer.clone()
    }
}

impl Drop for StreamGuard {
    fn drop(&mut self) {
        let mut state = lock(&self.0.state);
        state.streams -= 1;
        if state.streams == 0 {
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
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.stream(cx)?.poll_read(cx, buf)
    }
}

impl AsyncWrite for Http2Connection {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.stream(cx)?.poll_write(cx, buf)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.stream(cx)?.poll_write_vectored(cx, bufs)
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
