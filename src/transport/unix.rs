use super::socket::{SocketReceiver, SocketSender};
use crate::connection::link::Link;
use crate::error::ConnectError;
use crate::wire::MAX_FRAME_LEN;
use std::io;
use std::os::unix::fs::FileTypeExt;
use std::path::Path;
use tokio::net::UnixStream;

/// Connects to a socket file.
pub(super) async fn connect(path: &Path) -> Result<Link, ConnectError> {
    match UnixStream::connect(path).await {
        Ok(stream) => Ok(split_unix(stream)),
        Err(error) => Err(explain(error, path)),
    }
}

/// The two halves of a connected socket.
pub(crate) fn split_unix(stream: UnixStream) -> Link {
    let (read, write) = stream.into_split();
    Link {
        sender: Box::new(SocketSender(write)),
        receiver: Box::new(SocketReceiver(read)),
        max_frame: MAX_FRAME_LEN,
    }
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
