//! Received bytes, and the hello at their beginning.

use super::End;
use crate::wire::{Frame, FrameKind, Hello, Status, next_frame};
use bytes::{Buf, Bytes, BytesMut};
use std::io;
use tokio::io::{AsyncRead, AsyncReadExt};
use tollgate::listener::SessionMemory;

/// Bytes that are read at once at least.
pub(super) const READ_SIZE: usize = 16 * 1024;

/// Bytes of a frame's length.
const LENGTH_LEN: usize = 4;

/// Receive buffer. Its memory grows with what arrives, not with what a length announces.
pub(super) struct Input {
    bytes: BytesMut,
    limit: usize,
}

/// The contents of a hello.
pub(super) struct Received {
    pub(super) max_frame_size: u32,
    pub(super) is_health_check: bool,
}

impl Input {
    pub(super) fn new(limit: usize) -> Self {
        Self {
            bytes: BytesMut::new(),
            limit,
        }
    }

    /// Sets the size limit of the frames that follow.
    pub(super) fn set_limit(&mut self, limit: usize) {
        self.limit = limit;
    }

    /// Returns the buffer to append to, with room for a read.
    pub(super) fn spare(&mut self) -> &mut BytesMut {
        if self.bytes.is_empty() && self.bytes.capacity() > 8 * READ_SIZE {
            self.bytes = BytesMut::new();
        }
        let room = self.bytes.capacity() - self.bytes.len();
        // Memory that earlier frames have left is used again. Where they have not yet, a shorter
        // read will do.
        if room < READ_SIZE && !self.bytes.try_reclaim(READ_SIZE) && room < READ_SIZE / 4 {
            self.bytes.reserve(READ_SIZE);
        }
        &mut self.bytes
    }

    /// Removes and returns the next complete frame, without its length.
    pub(super) fn next_frame(&mut self) -> Result<Option<Bytes>, Status> {
        let Some(len) = next_frame(&self.bytes, self.limit)? else {
            return Ok(None);
        };
        self.bytes.advance(LENGTH_LEN);
        Ok(Some(self.bytes.split_to(len).freeze()))
    }

    /// Returns the number of bytes of an incomplete frame.
    pub(super) fn len(&self) -> usize {
        self.bytes.len()
    }

    /// Returns the size of the buffer in bytes.
    pub(super) fn memory(&self) -> usize {
        self.bytes.capacity()
    }
}

/// Reads HAProxy's hello.
pub(super) async fn handshake<S>(
    stream: &mut S,
    input: &mut Input,
    memory: &mut SessionMemory,
) -> Result<Received, End>
where
    S: AsyncRead + Unpin,
{
    let frame = loop {
        if let Some(frame) = input.next_frame()? {
            break frame;
        }
        if stream.read_buf(input.spare()).await? == 0 {
            return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into());
        }
        memory.set(input.memory());
        if memory.is_needed() {
            return Err(Status::Resources.into());
        }
    };
    let frame = Frame::read(&frame).map_err(|_| Status::InvalidFrame)?;
    if frame.kind != FrameKind::HaproxyHello {
        return Err(Status::InvalidFrame.into());
    }
    if !frame.flags.is_whole() {
        return Err(Status::Fragmented.into());
    }
    let hello = Hello::read(frame.payload)?;
    Ok(Received {
        max_frame_size: hello.max_frame_size,
        is_health_check: hello.is_health_check,
    })
}
