//! The conversion of gRPC messages to frames, for fuzz tests.

use super::messages::Unframer;
use crate::wire::{Direction, FrameBuffer, MAX_FRAME_LEN};
use bytes::{Bytes, BytesMut};
use std::io;

/// Received messages of a gRPC stream.
#[derive(Debug)]
pub struct GrpcMessages {
    unframer: Unframer,
    frames: FrameBuffer,
}

impl GrpcMessages {
    /// Receives what a proxy sends, in messages of at most `max_message` bytes.
    pub fn to_agent(max_message: usize) -> Self {
        Self::new(Direction::ToAgent, max_message)
    }

    /// Receives what an agent sends, in messages of at most `max_message` bytes.
    pub fn to_proxy(max_message: usize) -> Self {
        Self::new(Direction::ToProxy, max_message)
    }

    fn new(direction: Direction, max_message: usize) -> Self {
        Self {
            unframer: Unframer::new(direction, max_message),
            frames: FrameBuffer::default(),
        }
    }

    /// Appends received bytes. Returns whether they are valid.
    pub fn receive(&mut self, bytes: Bytes) -> bool {
        self.unframer.add(bytes, self.frames.spare()).is_ok()
    }

    /// Returns the message type and the payload of the next frame, if it is complete.
    pub fn next_frame(&mut self) -> Option<(u8, BytesMut)> {
        self.frames.next_frame(MAX_FRAME_LEN).ok().flatten()
    }

    /// Checks that the stream may end here.
    ///
    /// # Errors
    ///
    /// Fails within a message.
    pub fn ended(&self) -> io::Result<()> {
        self.unframer.ended().map_err(io::Error::other)
    }
}
