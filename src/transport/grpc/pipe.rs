//! The sending half: frames become gRPC messages, which are the body of an HTTP/2 stream.

use crate::connection::link::{Batch, LinkSender, Why};
use atomic_waker::AtomicWaker;
use bytes::{Buf, Bytes, BytesMut};
use http::HeaderMap;
use http_body::{Body, Frame};
use std::collections::VecDeque;
use std::fmt::Display;
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use tonic::{Code, Status};

/// Bytes that may wait for the stream's flow control before senders wait. One more batch may follow.
const MAX_WAITING: usize = 64 * 1024;

/// Room that is made at once for what waits.
const BUFFER_SIZE: usize = 16 * 1024;

/// Both ends of a pipe. `trailers` follow what was sent when the sender closes it.
pub(crate) fn pipe(trailers: Option<HeaderMap>) -> (PipeSender, PipeBody) {
    let pipe = Arc::new(Pipe::default());
    let body = PipeBody {
        pipe: Arc::clone(&pipe),
        trailers,
    };
    (PipeSender(pipe), body)
}

/// Where a connection sends its frames to.
#[derive(Debug)]
pub(crate) struct PipeSender(Arc<Pipe>);

/// Where HTTP/2 takes them from.
#[derive(Debug)]
pub(crate) struct PipeBody {
    pipe: Arc<Pipe>,
    trailers: Option<HeaderMap>,
}

#[derive(Debug, Default)]
struct Pipe {
    waiting: Mutex<Waiting>,
    body: AtomicWaker,
    room: AtomicWaker,
}

/// Messages that wait to be taken.
#[derive(Debug, Default)]
struct Waiting {
    /// In order; `written` follows them.
    pieces: VecDeque<Bytes>,
    written: BytesMut,
    bytes: usize,
    is_closed: bool,
    /// What the trailers say in the place of those that were set.
    failure: Option<Status>,
    /// Whether nobody takes anything any more.
    is_abandoned: bool,
}

impl Pipe {
    /// Held for a copy of a batch at most. HTTP/2 has locks of its own, so gRPC cannot do without any.
    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Waiting {
    fn has_room(&self) -> bool {
        self.bytes < MAX_WAITING
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

    fn take(&mut self) -> Option<Bytes> {
        let piece = self
            .pieces
            .pop_front()
            .or_else(|| (!self.written.is_empty()).then(|| self.written.split().freeze()))?;
        self.bytes -= piece.len();
        Some(piece)
    }
}

impl LinkSender for PipeSender {
    fn try_send(&self, batch: &mut Batch, recycle: &dyn Fn(Vec<u8>)) -> io::Result<()> {
        let mut waiting = self.0.waiting();
        if waiting.is_abandoned {
            return Err(io::ErrorKind::BrokenPipe.into());
        }
        while waiting.has_room()
            && let Some(mut frame) = batch.take_frame()
        {
            to_messages(&mut frame.written);
            waiting.push(&frame.written, frame.body);
            recycle(frame.written);
        }
        drop(waiting);
        self.0.body.wake();
        Ok(())
    }

    fn poll_room(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.0.room.register(cx.waker());
        let waiting = self.0.waiting();
        if waiting.is_abandoned {
            Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()))
        } else if waiting.has_room() {
            Poll::Ready(Ok(()))
        } else {
            Poll::Pending
        }
    }

    fn close(&self) {
        self.0.waiting().is_closed = true;
        self.0.body.wake();
    }

    /// A proxy that goes as a whole abandons the pipe.
    fn outlasts_the_other_side(&self) -> bool {
        true
    }

    /// What is sent passes through two tasks of HTTP/2 and TCP.
    fn is_costly(&self) -> bool {
        true
    }

    fn say_why(&self, why: Why, detail: &dyn Display) {
        let code = match why {
            Why::Invalid => Code::InvalidArgument,
            Why::TooMuch => Code::ResourceExhausted,
            Why::TooSlow => Code::DeadlineExceeded,
            Why::Stopping => Code::Unavailable,
        };
        self.0.waiting().failure = Some(Status::new(code, detail.to_string()));
    }
}

impl Drop for PipeSender {
    fn drop(&mut self) {
        self.close();
    }
}

/// Frames and messages both begin with five bytes: there length and type, here a flag for compression and the
/// length of what follows, which says its type itself.
fn to_messages(frames: &mut [u8]) {
    let mut rest = frames;
    while let Some((head, behind)) = rest.split_first_chunk_mut::<5>() {
        let [l0, l1, l2, l3, _] = *head;
        let payload_len = u32::from_be_bytes([l0, l1, l2, l3]).saturating_sub(1);
        let [l0, l1, l2, l3] = payload_len.to_be_bytes();
        *head = [0, l0, l1, l2, l3];
        // The end of the last payload may stand elsewhere.
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
        self.pipe.body.register(cx.waker());
        let mut waiting = self.pipe.waiting();
        if let Some(piece) = waiting.take() {
            let has_room = waiting.has_room();
            drop(waiting);
            if has_room {
                self.pipe.room.wake();
            }
            debug_assert!(piece.has_remaining());
            return Poll::Ready(Some(Ok(Frame::data(piece))));
        }
        if !waiting.is_closed {
            return Poll::Pending;
        }
        let failure = waiting.failure.take();
        drop(waiting);
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
        let mut waiting = self.pipe.waiting();
        waiting.is_abandoned = true;
        waiting.pieces.clear();
        drop(waiting);
        self.pipe.room.wake();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::{MAX_FRAME_LEN, MessageType, OutgoingFrame, frame_of, write_message};

    fn take(pipe: &PipeBody) -> Vec<u8> {
        let mut waiting = pipe.pipe.waiting();
        std::iter::from_fn(|| waiting.take()).flatten().collect()
    }

    #[test]
    fn every_frame_becomes_a_message() {
        let (sender, body) = pipe(None);
        let mut frames = frame_of(MessageType::Ping, b"first").unwrap();
        write_message(&mut frames.written, MessageType::Pong, MAX_FRAME_LEN, b"").unwrap();
        let mut with_body = frame_of(MessageType::RequestBodyChunk, b"head+body").unwrap();
        with_body.written.truncate(10);
        with_body.body = Bytes::from_static(b"body");
        let mut batch = Batch::default();
        batch.push(frames);
        batch.push(with_body);
        sender.try_send(&mut batch, &drop).unwrap();
        assert!(batch.is_empty());
        let expected = b"\0\0\0\0\x05first\0\0\0\0\0\0\0\0\0\x09head+body";
        assert_eq!(take(&body), expected);
    }

    #[test]
    fn a_full_pipe_leaves_frames_in_the_batch() {
        let (sender, body) = pipe(None);
        let mut batch = Batch::default();
        for _ in 0..3 {
            batch.push(OutgoingFrame::from(vec![0; MAX_WAITING]));
        }
        sender.try_send(&mut batch, &drop).unwrap();
        assert_eq!(batch.len(), 2);
        let mut cx = Context::from_waker(std::task::Waker::noop());
        assert!(sender.poll_room(&mut cx).is_pending());
        assert_eq!(take(&body).len(), MAX_WAITING);
        assert!(sender.poll_room(&mut cx).is_ready());
        drop(body);
        assert!(sender.try_send(&mut batch, &drop).is_err());
    }
}
