//! Writes frames.

use super::close::ClosePayload;
use super::header;
use super::mask;
use super::side::Side;
use bytes::{BufMut, Bytes, BytesMut};
use std::io;
use tokio::io::{AsyncWrite, AsyncWriteExt};
use tollgate::events::WebSocketOpcode;

/// Bytes of a payload that are masked and written at once. A multiple of the key's length, so that
/// each part begins with the key's first byte.
const PART: usize = 64 * 1024;
/// Capacity that is kept between frames.
const KEPT: usize = 4 * 1024;

/// Writes frames to one peer.
///
/// A frame whose future was dropped is completed by [`Self::finish`] or with the next frame.
#[derive(Debug)]
pub(super) struct FrameWriter<W> {
    io: W,
    to: Side,
    /// Bytes to write before the payload.
    out: BytesMut,
    /// The rest of the payload, unmasked.
    payload: Bytes,
    mask: Option<[u8; 4]>,
    has_closed: bool,
}

impl<W: AsyncWrite + Unpin> FrameWriter<W> {
    pub(super) fn new(io: W, to: Side) -> Self {
        let (out, payload) = (BytesMut::new(), Bytes::new());
        Self {
            io,
            to,
            out,
            payload,
            mask: None,
            has_closed: false,
        }
    }

    /// Writes a frame, masked with a new key if the receiver is the upstream.
    pub(super) async fn send(
        &mut self,
        opcode: WebSocketOpcode,
        fin: bool,
        payload: Bytes,
    ) -> io::Result<()> {
        self.finish().await?;
        self.begin(opcode, fin, payload)?;
        self.finish().await
    }

    /// Writes a close frame, unless one has been written.
    pub(super) async fn close(&mut self, payload: ClosePayload) -> io::Result<()> {
        if self.has_closed {
            return self.finish().await;
        }
        self.send(WebSocketOpcode::Close, true, payload.into_bytes())
            .await
    }

    /// Ends the stream.
    pub(super) async fn shut_down(&mut self) -> io::Result<()> {
        self.io.shutdown().await
    }

    fn begin(&mut self, opcode: WebSocketOpcode, fin: bool, payload: Bytes) -> io::Result<()> {
        self.mask = match self.to {
            Side::Client => None,
            Side::Upstream => Some(rand::random()),
        };
        self.has_closed |= opcode == WebSocketOpcode::Close;
        header::outgoing(opcode, fin, self.mask)
            .format(payload.len() as u64, &mut (&mut self.out).writer())
            .map_err(io::Error::other)?;
        self.payload = payload;
        self.add_part();
        Ok(())
    }

    /// Moves the next part of the payload to the bytes that are written first.
    fn add_part(&mut self) {
        let part = self.payload.split_to(self.payload.len().min(PART));
        let start = self.out.len();
        self.out.extend_from_slice(&part);
        if let Some(key) = self.mask {
            mask::apply(&mut self.out[start..], key);
        }
    }

    /// Writes the rest of the frame that was begun.
    async fn finish(&mut self) -> io::Result<()> {
        loop {
            while !self.out.is_empty() {
                if self.io.write_buf(&mut self.out).await? == 0 {
                    return Err(io::ErrorKind::WriteZero.into());
                }
            }
            if self.payload.is_empty() {
                break;
            }
            self.out.clear();
            self.add_part();
        }
        if self.out.capacity() > KEPT {
            self.out = BytesMut::new();
        }
        self.payload = Bytes::new();
        self.io.flush().await
    }
}
