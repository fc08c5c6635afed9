//! The sending half of a link: converts frames to gRPC messages, which form the body of an HTTP/2
//! stream.

use super::MAX_DATA_FRAME;
use super::http2_connection::Http2ConnectionState;
use crate::connection::link::{Batch, CloseReason, LinkError, LinkPoll, LinkSender};
use crate::lock::lock;
use atomic_waker::AtomicWaker;
use bytes::{Buf, Bytes, BytesMut};
use http::HeaderMap;
use http_body::{Body, Frame};
use std::collections::VecDeque;
use std::fmt::Display;
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use tonic::{Code, Status};

/// Queued bytes beyond which senders have to wait. The last frame may exceed it.
const MAX_QUEUED: usize = 64 * 1024;

/// Capacity that the buffer for encoded frames is grown by at least.
const BUFFER_SIZE: usize = 16 * 1024;

/// Creates both ends of a pipe, whose bytes are charged to no connection.
pub(super) fn request_pipe() -> (PipeSender, PipeBody) {
    new_pipe(Pipe::default(), None)
}

/// Creates both ends of the pipe of a response. What it holds is charged to its connection until it
/// is sent. The trailers are sent when the sender is closed.
pub(crate) fn response_pipe(
    trailers: HeaderMap,
    connection: Option<Arc<Http2ConnectionState>>,
) -> (PipeSender, PipeBody) {
    let pipe = Pipe {
        connection,
        ..Pipe::default()
    };
    new_pipe(pipe, Some(trailers))
}

fn new_pipe(pipe: Pipe, trailers: Option<HeaderMap>) -> (PipeSender, PipeBody) {
    let pipe = Arc::new(pipe);
    let body = PipeBody {
        pipe: Arc::clone(&pipe),
        trailers,
    };
    (PipeSender(pipe), body)
}

/// The end that a connection sends its frames to.
#[derive(Debug)]
pub(crate) struct PipeSender(Arc<Pipe>);

/// The end that HTTP/2 takes messages from.
#[derive(Debug)]
pub(crate) struct PipeBody {
    pipe: Arc<Pipe>,
    trailers: Option<HeaderMap>,
}

#[derive(Debug, Default)]
struct Pipe {
    /// Locked at most for as long as copying a batch takes. hyper's HTTP/2 takes locks as well, so
    /// gRPC cannot be lock-free.
    queue: Mutex<Queue>,
    body_waker: AtomicWaker,
    sender_waker: AtomicWaker,
    /// Connection that the bytes are charged to.
    connection: Option<Arc<Http2ConnectionState>>,
}

/// Messages that HTTP/2 has not taken yet.
#[derive(Debug, Default)]
struct Queue {
    /// Complete pieces in order. The bytes of `written` follow them.
    pieces: VecDeque<Bytes>,
    written: BytesMut,
    bytes: usize,
    is_closed: bool,
    /// Status to send in the trailers in place of the one that they were created with.
    failure: Option<Status>,
    /// Set once the body is dropped, so that nothing will be taken any more.
    is_body_dropped: bool,
}

impl Queue {
    fn has_room(&self) -> bool {
        self.bytes < MAX_QUEUED
    }

    fn push(&mut self, written: &[u8], body: Bytes) {
        self.bytes += written.len() + body.len();
        if self.written.capacity() - self.written.len() < written.len() {
            self.written.reserve(written.len().max(BUFFER_SIZE));
        }
        self.written.extend_from_slice(written);
        if !body.is_empty() {
            let before = self.written.split().freeze();
            self.pieces.extend([before, body]);
        }
    }

    /// Takes no more than fits into a frame, so that HTTP/2 holds little that it cannot send.
    fn take(&mut self) -> Option<Bytes> {
        if self.pieces.is_empty() && !self.written.is_empty() {
            self.pieces.push_back(self.written.split().freeze());
        }
        let first = self.pieces.front_mut()?;
        let piece = first.split_to(first.len().min(MAX_DATA_FRAME as usize));
        if first.is_empty() {
            self.pieces.pop_front();
        }
        self.bytes -= piece.len();
        Some(piece)
    }
}

impl LinkSender for PipeSender {
    fn try_send(&self, batch: &mut Batch, recycle: &dyn Fn(Vec<u8>)) -> Result<(), LinkError> {
        let mut queue = lock(&self.0.queue);
        if queue.is_body_dropped {
            return Err(closed());
        }
        let before = queue.bytes;
        while queue.has_room()
            && let Some(mut frame) = batch.take_frame()
        {
            frames_to_messages(&mut frame.written);
            queue.push(&frame.written, frame.body);
            recycle(frame.written);
        }
        if let Some(connection) = &self.0.connection {
            connection.add_unsent(queue.bytes - before);
        }
        drop(queue);
        self.0.body_waker.wake();
        Ok(())
    }

    fn poll_room(&self, cx: &mut Context<'_>) -> LinkPoll<()> {
        self.0.sender_waker.register(cx.waker());
        let queue = lock(&self.0.queue);
        if queue.is_body_dropped {
            Poll::Ready(Err(closed()))
        } else if queue.has_room() {
            Poll::Ready(Ok(()))
        } else {
            Poll::Pending
        }
    }

    fn is_peer_gone(&self) -> bool {
        lock(&self.0.queue).is_body_dropped
    }

    fn close(&self) {
        lock(&self.0.queue).is_closed = true;
        self.0.body_waker.wake();
    }

    /// A proxy that closes the whole connection drops the body, which the sender notices.
    fn supports_half_close(&self) -> bool {
        true
    }

    /// Every send passes through two more tasks, one for HTTP/2 and one for the socket.
    fn prefers_batching(&self) -> bool {
        true
    }

    fn send_close_reason(&self, reason: CloseReason, detail: &dyn Display) {
        let code = match reason {
            CloseReason::Invalid => Code::InvalidArgument,
            CloseReason::LimitExceeded => Code::ResourceExhausted,
            CloseReason::HandshakeTimeout => Code::DeadlineExceeded,
            CloseReason::Stopping => Code::Unavailable,
            CloseReason::SettingsRejected => Code::FailedPrecondition,
        };
        lock(&self.0.queue).failure = Some(Status::new(code, detail.to_string()));
    }
}

impl Drop for PipeSender {
    fn drop(&mut self) {
        self.close();
    }
}

fn closed() -> LinkError {
    LinkError::Io(io::ErrorKind::BrokenPipe.into())
}

/// Converts frames to messages in place. Both have headers of 5 bytes: a frame's holds the length
/// and the type, a message's holds a compression flag and the length of the payload, which contains
/// its type.
fn frames_to_messages(frames: &mut [u8]) {
    let mut rest = frames;
    while let Some((head, behind)) = rest.split_first_chunk_mut::<5>() {
        let [l0, l1, l2, l3, _] = *head;
        let payload_len = u32::from_be_bytes([l0, l1, l2, l3]).saturating_sub(1);
        let [l0, l1, l2, l3] = payload_len.to_be_bytes();
        *head = [0, l0, l1, l2, l3];
        // The last payload may continue in a separate body.
        let written = behind.len().min(payload_len as usize);
        rest = &mut behind[written..];
    }
}

impl Body for PipeBody {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        self.pipe.body_waker.register(cx.waker());
        let mut queue = lock(&self.pipe.queue);
        if let Some(piece) = queue.take() {
            let has_room = queue.has_room();
            drop(queue);
            if has_room {
                self.pipe.sender_waker.wake();
            }
            debug_assert!(piece.has_remaining());
            return Poll::Ready(Some(Ok(Frame::data(piece))));
        }
        if !queue.is_closed {
            return Poll::Pending;
        }
        let failure = queue.failure.take();
        drop(queue);
        let Some(mut trailers) = self.trailers.take() else {
            return Poll::Ready(None);
        };
        if let Some(failure) = failure {
            failure.add_header(&mut trailers)?;
        }
        Poll::Ready(Some(Ok(Frame::trailers(trailers))))
    }
}

impl Drop for PipeBody {
    fn drop(&mut self) {
        let mut queue = lock(&self.pipe.queue);
        queue.is_body_dropped = true;
        queue.pieces.clear();
        queue.written = BytesMut::new();
        let unsent = std::mem::take(&mut queue.bytes);
        if let Some(connection) = &self.pipe.connection {
            connection.remove_unsent(unsent);
        }
        drop(queue);
        self.pipe.sender_waker.wake();
    }
}

#[cfg(test)]
#[path = "../../../tests/unit/transport/grpc/pipe.rs"]
mod tests;
