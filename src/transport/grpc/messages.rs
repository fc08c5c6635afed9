//! The receiving half of a link: converts gRPC messages to frames.

use crate::connection::link::{LinkError, LinkPoll, LinkReceiver};
use crate::wire::{Direction, FrameError, MAX_FRAME_LEN};
use bytes::{Buf, Bytes, BytesMut};
use http_body::Body;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use tonic::Status;

/// Length of a message's header: a compression flag (1 byte) and the message length (4 bytes, big
/// endian).
const HEAD_LEN: usize = 5;

/// Placeholder for the type of a frame. No version of the protocol uses it.
const UNKNOWN: u8 = 0;

/// Receives the messages of a stream from its HTTP/2 body.
pub(crate) struct MessageReceiver {
    body: tonic::body::Body,
    unframer: Unframer,
    /// Set once a message is invalid. Returned after the frames before it.
    error: Option<FrameError>,
}

impl MessageReceiver {
    /// Creates a receiver that rejects messages larger than `max_message` bytes.
    pub(crate) fn new(body: tonic::body::Body, direction: Direction, max_message: usize) -> Self {
        Self {
            body,
            unframer: Unframer::new(direction, max_message),
            error: None,
        }
    }
}

impl LinkReceiver for MessageReceiver {
    fn poll_receive(&mut self, cx: &mut Context<'_>, into: &mut BytesMut) -> LinkPoll<usize> {
        let before = into.len();
        loop {
            if let Some(error) = self.error {
                return Poll::Ready(Err(error.into()));
            }
            let frame = match ready!(Pin::new(&mut self.body).poll_frame(cx)) {
                None => return Poll::Ready(self.unframer.ended().map(|()| 0)),
                Some(frame) => frame.map_err(|status| rpc_error(&status))?,
            };
            match frame.into_data() {
                // The frames before the error are returned first.
                Ok(data) => self.error = self.unframer.add(data, into).err(),
                Err(frame) => {
                    if let Some(status) = frame.trailers_ref().and_then(Status::from_header_map)
                        && status.code() != tonic::Code::Ok
                    {
                        return Poll::Ready(Err(rpc_error(&status)));
                    }
                }
            }
            if into.len() > before {
                return Poll::Ready(Ok(into.len() - before));
            }
        }
    }
}

/// Returns the error for a status that ended a stream.
pub(super) fn rpc_error(status: &Status) -> LinkError {
    LinkError::Rpc {
        status: format!("{:?}", status.code()),
        message: explain(status),
    }
}

/// Returns the message of a status and of its sources.
fn explain(status: &Status) -> String {
    let mut text = status.message().to_owned();
    let mut cause = std::error::Error::source(status);
    while let Some(error) = cause {
        let message = error.to_string();
        if !text.contains(&message) {
            text.push_str(": ");
            text.push_str(&message);
        }
        cause = error.source();
    }
    text
}

/// Converts messages, received in pieces of any size, to frames.
///
/// The output buffer grows with the bytes received, never by an announced length.
#[derive(Debug)]
pub(crate) struct Unframer {
    direction: Direction,
    max_message: usize,
    head: [u8; HEAD_LEN],
    /// Bytes of the header that were received. Invariant: at most [`HEAD_LEN`].
    head_len: usize,
    /// Length of the message, once its header is complete.
    len: usize,
    /// Bytes of the message that are not received yet.
    remaining: usize,
}

impl Unframer {
    pub(crate) fn new(direction: Direction, max_message: usize) -> Self {
        Self {
            direction,
            max_message: max_message.min(MAX_FRAME_LEN - 1),
            head: [0; HEAD_LEN],
            head_len: 0,
            len: 0,
            remaining: 0,
        }
    }

    /// Converts received bytes and appends the frames.
    pub(crate) fn add(&mut self, mut data: Bytes, into: &mut BytesMut) -> Result<(), FrameError> {
        while data.has_remaining() {
            if self.head_len < HEAD_LEN {
                let missing = data.len().min(HEAD_LEN - self.head_len);
                data.copy_to_slice(&mut self.head[self.head_len..][..missing]);
                self.head_len += missing;
                if self.head_len < HEAD_LEN {
                    return Ok(());
                }
                self.begin(into)?;
            }
            let here = data.len().min(self.remaining);
            into.extend_from_slice(&data[..here]);
            data.advance(here);
            self.remaining -= here;
            if self.remaining == 0 {
                self.end(into);
            }
        }
        Ok(())
    }

    /// Starts the frame of a message whose header is complete.
    fn begin(&mut self, into: &mut BytesMut) -> Result<(), FrameError> {
        let [flag, len @ ..] = self.head;
        if flag != 0 {
            return Err(FrameError::Compressed);
        }
        let len = u32::from_be_bytes(len);
        if len as usize > self.max_message {
            return Err(FrameError::TooLarge {
                length: len as usize,
                limit: self.max_message,
            });
        }
        self.len = len as usize;
        self.remaining = self.len;
        into.extend_from_slice(&(len + 1).to_be_bytes());
        into.extend_from_slice(&[UNKNOWN]);
        Ok(())
    }

    /// Completes a frame: the message type, which only the message itself contains, replaces the
    /// placeholder in the frame's header.
    fn end(&mut self, into: &mut BytesMut) {
        self.head_len = 0;
        let start = into.len() - self.len;
        if let Some(message) = self.direction.message_type(&into[start..]) {
            into[start - 1] = message as u8;
        }
    }

    /// Checks at the end of the stream that the last message is complete.
    pub(crate) fn ended(&self) -> Result<(), LinkError> {
        match self.head_len {
            0 => Ok(()),
            _ => Err(LinkError::Io(io::ErrorKind::UnexpectedEof.into())),
        }
    }
}

#[cfg(test)]
#[path = "../../../tests/unit/transport/grpc/messages.rs"]
mod tests;
