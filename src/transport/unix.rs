//! Unix socket links.

use super::socket::{UnixReadHalf, WriteHalf, is_hung_up, link_of};
use crate::backoff::delay;
use crate::connection::link::{Link, LinkReceiver};
use crate::error::ConnectError;
use socket2::SockRef;
use std::io::{self, IoSlice, Write};
use std::net::Shutdown;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::FileTypeExt;
use std::os::unix::net;
use std::path::Path;
use std::sync::{Mutex, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tokio::net::UnixStream;
use tokio::net::unix::pipe;
use tokio::time::sleep;

/// Delays before connecting again to a listener whose backlog is full. The kernel queues no one who
/// waits for room in it, so they are short.
const FIRST_RETRY_DELAY: Duration = Duration::from_millis(1);
const MAX_RETRY_DELAY: Duration = Duration::from_millis(20);

/// Connects a proxy to an agent's socket file.
pub(super) async fn connect(path: &Path) -> Result<Link, ConnectError> {
    Ok(split_unix(open(path).await?))
}

/// Connects an agent to a proxy's socket file.
pub(crate) async fn connect_to_proxy(path: &Path) -> Result<Link, ConnectError> {
    let stream = open(path).await?;
    let second = second_descriptor(&stream)?;
    Ok(split_unix_of_agent(stream, second)?)
}

async fn open(path: &Path) -> Result<UnixStream, ConnectError> {
    connect_stream(path)
        .await
        .map_err(|error| connect_error(error, path))
}

/// Connects to a socket file. Waits for as long as the listener's backlog is full, so the caller
/// has to limit the time.
pub(super) async fn connect_stream(path: &Path) -> io::Result<UnixStream> {
    for failures in 1.. {
        match UnixStream::connect(path).await {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                sleep(delay(FIRST_RETRY_DELAY, MAX_RETRY_DELAY, failures)).await;
            }
            connected => return connected,
        }
    }
    Err(io::ErrorKind::WouldBlock.into())
}

/// Splits a proxy's socket into the halves of a link.
pub(crate) fn split_unix(stream: UnixStream) -> Link {
    let (read, write) = stream.into_split();
    link_of(write, receiver(read))
}

/// Splits an agent's socket into the halves of a link.
///
/// A Unix socket reports that it is writable whenever the peer reads, and a [`UnixStream`] wakes
/// its thread for that. An agent that has answered a single request would be woken a second time,
/// for nothing, when the proxy reads the answer. The sending half returned here therefore registers
/// for writability only while a write is blocked.
///
/// A proxy keeps the plain [`UnixStream`]: it is woken when the agent reads its request, which is
/// just in time for the answer.
///
/// Each half owns a descriptor; `second` is the one that [`second_descriptor`] has returned.
///
/// # Errors
///
/// Fails if the runtime cannot register the socket.
pub(crate) fn split_unix_of_agent(stream: UnixStream, second: OwnedFd) -> io::Result<Link> {
    let reading = stream.into_std()?;
    let writing = net::UnixStream::from(second);
    // Tokio registers its sockets for both directions. A pipe's receiver registers for reading
    // only, and works with any file descriptor.
    let reading = pipe::Receiver::from_owned_fd_unchecked(reading.into())?;
    let writing = UnwatchedWriteHalf {
        socket: writing,
        watched: Mutex::default(),
    };
    Ok(link_of(writing, receiver(reading)))
}

/// Returns the receiving half, which can be replaced by shared memory on Linux.
#[cfg(target_os = "linux")]
fn receiver(read: impl UnixReadHalf) -> impl LinkReceiver {
    super::shared::UpgradableReceiver::new(read)
}

#[cfg(not(target_os = "linux"))]
use super::socket::SocketReceiver as receiver;

/// Returns a second descriptor of a socket. Fails if no descriptor is free.
pub(crate) fn second_descriptor(stream: &UnixStream) -> io::Result<OwnedFd> {
    stream.as_fd().try_clone_to_owned()
}

/// A sending half that is registered with the runtime only while a write is blocked.
#[derive(Debug)]
struct UnwatchedWriteHalf {
    socket: net::UnixStream,
    /// A second descriptor of the socket, while a write is blocked.
    watched: Mutex<Option<pipe::Sender>>,
}

impl WriteHalf for UnwatchedWriteHalf {
    fn try_write_vectored(&self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        (&self.socket).write_vectored(slices)
    }

    fn poll_write_ready(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut slot = self.watched.lock().unwrap_or_else(PoisonError::into_inner);
        let watched = match &mut *slot {
            Some(watched) => watched,
            none => {
                let descriptor = self.socket.try_clone()?.into();
                none.insert(pipe::Sender::from_owned_fd_unchecked(descriptor)?)
            }
        };
        let ready = ready!(watched.poll_write_ready(cx));
        *slot = None;
        Poll::Ready(ready)
    }

    fn shut_down(&self) -> io::Result<()> {
        SockRef::from(&self.socket).shutdown(Shutdown::Both)
    }

    fn is_hung_up(&self) -> bool {
        is_hung_up(&self.socket)
    }
}

/// Returns the error for a failed connect. The kernel reports "connection refused" both for a
/// socket without a listener and for a file that is not a socket; this tells them apart.
fn connect_error(error: io::Error, path: &Path) -> ConnectError {
    let is_socket = || std::fs::metadata(path).is_ok_and(|file| file.file_type().is_socket());
    if error.kind() == io::ErrorKind::ConnectionRefused && !is_socket() {
        return ConnectError::NotASocket;
    }
    error.into()
}
