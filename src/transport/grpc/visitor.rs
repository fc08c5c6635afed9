//! HTTP/2 connections of a server, of which those without streams give way to newer ones.

use super::stream::Stream;
use crate::transport::{Doorway, Visit};
use atomic_waker::AtomicWaker;
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tonic::transport::server::Connected;

/// A connection that ends when it has to give way.
#[derive(Debug)]
pub(crate) struct Visitor {
    stream: Stream,
    standing: Arc<Standing>,
}

/// Whether a connection is of use, or in the doorway.
#[derive(Debug)]
pub(crate) struct Standing {
    doorway: Arc<Mutex<Doorway>>,
    state: Mutex<State>,
    /// The task that reads and writes.
    connection: AtomicWaker,
}

#[derive(Debug)]
struct State {
    streams: usize,
    /// As long as there are no streams.
    visit: Option<Visit>,
}

/// A stream that is served. Its connection gives way to nobody as long as this is held.
#[derive(Debug)]
pub(crate) struct Stay(Arc<Standing>);

impl Visitor {
    pub(crate) fn new(stream: Stream, standing: Arc<Standing>) -> Self {
        Self { stream, standing }
    }

    fn stream(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Result<Pin<&mut Stream>, io::Error> {
        let this = self.get_mut();
        match this.standing.poll_turned_away(cx) {
            Poll::Pending => Ok(Pin::new(&mut this.stream)),
            Poll::Ready(()) => Err(io::ErrorKind::ConnectionAborted.into()),
        }
    }
}

impl Standing {
    /// A connection that has just come.
    pub(crate) fn new(doorway: &Arc<Mutex<Doorway>>) -> Arc<Self> {
        Arc::new(Self {
            state: Mutex::new(State {
                streams: 0,
                visit: Some(lock(doorway).enter()),
            }),
            doorway: Arc::clone(doorway),
            connection: AtomicWaker::new(),
        })
    }

    /// Notes that a stream is served from now on.
    pub(crate) fn stay(self: &Arc<Self>) -> Stay {
        let mut state = lock(&self.state);
        state.streams += 1;
        state.visit = None;
        drop(state);
        Stay(Arc::clone(self))
    }

    /// Completes when the connection has to go.
    pub(crate) fn poll_turned_away(&self, cx: &mut Context<'_>) -> Poll<()> {
        self.connection.register(cx.waker());
        match &mut lock(&self.state).visit {
            Some(visit) => visit.poll_turned_away(cx),
            None => Poll::Pending,
        }
    }
}

impl Drop for Stay {
    fn drop(&mut self) {
        let mut state = lock(&self.0.state);
        state.streams -= 1;
        if state.streams == 0 {
            state.visit = Some(lock(&self.0.doorway).enter());
            drop(state);
            self.0.connection.wake();
        }
    }
}

/// Held for moments only.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Connected for Visitor {
    type ConnectInfo = Arc<Standing>;

    fn connect_info(&self) -> Arc<Standing> {
        Arc::clone(&self.standing)
    }
}

impl AsyncRead for Visitor {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.stream(cx)?.poll_read(cx, buf)
    }
}

impl AsyncWrite for Visitor {
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
