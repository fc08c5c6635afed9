//! Links of a simulation. They share the code of socket links; only the sockets are simulated.

use super::socket::{self, WriteHalf};
use crate::connection::link::Link;
use crate::error::ConnectError;
use std::cell::RefCell;
use std::fmt;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll};
use tokio::io::AsyncRead;

/// The writing half of a simulated stream.
pub trait Writer: Send + Sync + 'static {
    /// Writes as much as there is room for, like a vectored write to a socket.
    fn try_write_vectored(&self, slices: &[IoSlice<'_>]) -> io::Result<usize>;

    /// Polls until there is room.
    fn poll_write_ready(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>>;

    /// Closes both directions.
    fn shut_down(&self);
}

/// A simulated stream socket. Dropping a half closes its direction.
pub struct Stream {
    /// The reading half.
    pub reader: Box<dyn AsyncRead + Send + Unpin>,
    /// The writing half.
    pub writer: Box<dyn Writer>,
}

impl fmt::Debug for Stream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Stream").finish_non_exhaustive()
    }
}

/// A future that returns a stream.
pub type Connecting<'a> = Pin<Box<dyn Future<Output = io::Result<Stream>> + Send + 'a>>;

/// A simulated listener.
pub trait Listener: fmt::Debug + Send + Sync + 'static {
    /// Accepts the next connection.
    fn accept(&self) -> Connecting<'_>;
}

type Connector = Box<dyn Fn(&str) -> Connecting<'static>>;

thread_local! {
    static CONNECTOR: RefCell<Option<Connector>> = const { RefCell::new(None) };
}

/// Sets how connections are opened on this thread to endpoints of the form `sim:NAME`.
pub fn set_connector(connector: Option<Connector>) {
    CONNECTOR.set(connector);
}

pub(super) async fn connect(name: &str) -> Result<Link, ConnectError> {
    let connecting = CONNECTOR.with_borrow(|connector| connector.as_ref().map(|open| open(name)));
    let Some(connecting) = connecting else {
        return Err(io::Error::from(io::ErrorKind::NotFound).into());
    };
    Ok(link(connecting.await?))
}

/// Makes a stream the two halves of a link.
pub(crate) fn link(stream: Stream) -> Link {
    socket::link(stream.writer, stream.reader)
}

impl WriteHalf for Box<dyn Writer> {
    fn try_write_vectored(&self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        (**self).try_write_vectored(slices)
    }

    fn poll_write_ready(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        (**self).poll_write_ready(cx)
    }

    fn shut_down(&self) -> io::Result<()> {
        (**self).shut_down();
        Ok(())
    }

    fn is_hung_up(&self) -> bool {
        false
    }
}
