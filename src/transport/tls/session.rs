//! A link over a TLS session.

use super::failure::failure_of;
use crate::connection::link::{
    Batch, Link, LinkError, LinkPoll, LinkReceiver, LinkSender, MAX_SLICES,
};
use crate::lock::lock;
use crate::transport::socket::is_hung_up;
use crate::wire::MAX_FRAME_LEN;
use bytes::BytesMut;
use rustls::Connection;
use socket2::SockRef;
use std::io::{self, BufRead, IoSlice, Read, Write};
use std::net::Shutdown;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, ready};
use tokio::net::TcpStream;

/// A connection, shared by the halves of a link. They lock the session only while it encrypts or
/// decrypts.
struct Shared {
    socket: TcpStream,
    session: Mutex<Session>,
}

struct Session {
    tls: Connection,
    /// Bytes at the front of the sender's batch that are encrypted but not completely sent.
    ///
    /// They are taken out of the batch once they are sent, so that a batch that is not empty always
    /// means that the link has no capacity.
    encrypted: usize,
}

struct TlsSender(Arc<Shared>);

struct TlsReceiver(Arc<Shared>);

/// Splits a TLS connection into the halves of a link.
pub(super) fn split(socket: TcpStream, tls: Connection) -> Link {
    let shared = Arc::new(Shared {
        socket,
        session: Mutex::new(Session { tls, encrypted: 0 }),
    });
    Link {
        sender: Box::new(TlsSender(Arc::clone(&shared))),
        receiver: Box::new(TlsReceiver(shared)),
        max_frame: MAX_FRAME_LEN,
    }
}

impl Session {
    /// Sends encrypted bytes. Returns whether all of them were sent.
    fn flush(&mut self, socket: &TcpStream) -> io::Result<bool> {
        while self.tls.wants_write() {
            match self.tls.write_tls(&mut NonBlocking(socket)) {
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(false),
                Err(error) => return Err(error),
            }
        }
        Ok(true)
    }

    /// Moves decrypted bytes out of the session. Returns their number: 0 at the end, and `None` if
    /// there are none yet.
    fn take_decrypted(&mut self, into: &mut BytesMut) -> io::Result<Option<usize>> {
        let mut reader = self.tls.reader();
        let before = into.len();
        loop {
            let taken = match reader.fill_buf() {
                Ok([]) => 0,
                Ok(bytes) => {
                    into.extend_from_slice(bytes);
                    bytes.len()
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    return Ok(Some(into.len() - before).filter(|count| *count > 0));
                }
                // An end without `close_notify` is an ordinary end. The reader of the frames
                // detects a truncated one.
                Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => 0,
                Err(error) => return Err(error),
            };
            if taken == 0 {
                return Ok(Some(into.len() - before));
            }
            reader.consume(taken);
        }
    }
}

impl LinkSender for TlsSender {
    fn try_send(&self, batch: &mut Batch, recycle: &dyn Fn(Vec<u8>)) -> Result<(), LinkError> {
        let mut session = lock(&self.0.session);
        loop {
            if !session.flush(&self.0.socket)? {
                return Ok(());
            }
            let sent = std::mem::take(&mut session.encrypted);
            if !batch.is_empty() {
                batch.advance(sent, recycle);
            }
            if batch.is_empty() {
                return Ok(());
            }
            let mut slices = [IoSlice::new(&[]); MAX_SLICES];
            let filled = batch.fill(&mut slices);
            session.encrypted = session.tls.writer().write_vectored(&slices[..filled])?;
        }
    }

    fn poll_room(&self, cx: &mut Context<'_>) -> LinkPoll<()> {
        self.0.socket.poll_write_ready(cx).map_err(LinkError::from)
    }

    fn close(&self) {
        let mut session = lock(&self.0.session);
        session.tls.send_close_notify();
        // Fails only if the peer has already closed the connection, or does not read.
        let _ = session.flush(&self.0.socket);
        let _ = SockRef::from(&self.0.socket).shutdown(Shutdown::Both);
    }

    fn is_peer_gone(&self) -> bool {
        is_hung_up(&self.0.socket)
    }
}

impl LinkReceiver for TlsReceiver {
    fn poll_receive(&mut self, cx: &mut Context<'_>, into: &mut BytesMut) -> LinkPoll<usize> {
        let socket = &self.0.socket;
        loop {
            let mut session = lock(&self.0.session);
            if let Some(count) = session.take_decrypted(into)? {
                return Poll::Ready(Ok(count));
            }
            match session.tls.read_tls(&mut NonBlocking(socket)) {
                Ok(_) => {
                    let processed = session.tls.process_new_packets();
                    // Messages of the session itself, such as alerts. What is not sent now is sent
                    // with the next frame.
                    let _ = session.flush(socket);
                    processed.map_err(|error| failure_of(&error))?;
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    drop(session);
                    ready!(socket.poll_read_ready(cx))?;
                }
                Err(error) => return Poll::Ready(Err(error.into())),
            }
        }
    }
}

/// Reads and writes a socket without blocking.
struct NonBlocking<'s>(&'s TcpStream);

impl Read for NonBlocking<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.0.try_read(buffer)
    }
}

impl Write for NonBlocking<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.try_write(bytes)
    }

    fn write_vectored(&mut self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        self.0.try_write_vectored(slices)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
