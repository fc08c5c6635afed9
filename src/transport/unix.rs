use crate::connection::link::{Batch, LinkReceiver, LinkSender, MAX_SLICES};
use crate::error::ConnectError;
use bytes::BytesMut;
use socket2::SockRef;
use std::io::{self, IoSlice};
use std::net::Shutdown;
use std::os::unix::fs::FileTypeExt;
use std::path::Path;
use std::pin::pin;
use std::task::{Context, Poll};
use tokio::io::AsyncReadExt;
use tokio::net::UnixStream;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};

/// The sending half of a Unix socket.
#[derive(Debug)]
pub(crate) struct UnixSender(OwnedWriteHalf);

/// The receiving half of a Unix socket.
#[derive(Debug)]
pub(crate) struct UnixReceiver(OwnedReadHalf);

/// Connects to a socket file.
pub(super) async fn connect(path: &Path) -> Result<(UnixSender, UnixReceiver), ConnectError> {
    match UnixStream::connect(path).await {
        Ok(stream) => Ok(split_unix(stream)),
        Err(error) => Err(explain(error, path)),
    }
}

/// The two halves of a connected socket.
pub(crate) fn split_unix(stream: UnixStream) -> (UnixSender, UnixReceiver) {
    let (read, write) = stream.into_split();
    (UnixSender(write), UnixReceiver(read))
}

/// The kernel says "connection refused" both of a socket without a listener and of a file that is no
/// socket.
fn explain(error: io::Error, path: &Path) -> ConnectError {
    let is_socket = || std::fs::metadata(path).is_ok_and(|file| file.file_type().is_socket());
    if error.kind() == io::ErrorKind::ConnectionRefused && !is_socket() {
        return ConnectError::NotASocket;
    }
    error.into()
}

impl LinkSender for UnixSender {
    fn try_send(&self, batch: &mut Batch, recycle: &dyn Fn(Vec<u8>)) -> io::Result<()> {
        while !batch.is_empty() {
            let mut slices = [IoSlice::new(&[]); MAX_SLICES];
            let filled = batch.fill(&mut slices);
            match self.0.try_write_vectored(&slices[..filled]) {
                Ok(sent) => batch.advance(sent, recycle),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    fn poll_room(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.0.as_ref().poll_write_ready(cx)
    }

    fn close(&self) {
        // Fails only if the other side was quicker.
        let _ = SockRef::from(self.0.as_ref()).shutdown(Shutdown::Both);
    }
}

impl LinkReceiver for UnixReceiver {
    fn poll_receive(
        &mut self,
        cx: &mut Context<'_>,
        into: &mut BytesMut,
    ) -> Poll<io::Result<usize>> {
        // Reading keeps no state between polls, so its future may be a new one each time.
        pin!(self.0.read_buf(into)).poll(cx)
    }
}
