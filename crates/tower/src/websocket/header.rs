//! Headers of frames, checked as far as one header alone can be.

use super::Side;
use super::rules::Violation;
use std::io::Cursor;
use tollgate::events::WebSocketOpcode;
use tungstenite::protocol::frame::FrameHeader;
use tungstenite::protocol::frame::coding::{Control, Data, OpCode};

/// Longest payload of a control frame.
const MAX_CONTROL: u64 = 125;
/// The top bit of a 64-bit length must be 0.
const MAX_LENGTH: u64 = i64::MAX as u64;

/// Header of a received frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Header {
    pub(super) opcode: WebSocketOpcode,
    pub(super) fin: bool,
    /// Set in frames of a client, and only there.
    pub(super) mask: Option<[u8; 4]>,
    /// Length of the payload.
    pub(super) payload: u64,
    /// Length of the header itself.
    pub(super) len: usize,
}

impl Header {
    /// Reads the header at the start of received data, or returns `None` if it is not complete.
    pub(super) fn parse(data: &[u8], from: Side) -> Result<Option<Self>, Violation> {
        let mut cursor = Cursor::new(data);
        // Reading from memory fails for no other reason.
        let parsed =
            FrameHeader::parse(&mut cursor).map_err(|_| Violation::protocol("reserved opcode"))?;
        let Some((header, payload)) = parsed else {
            return Ok(None);
        };
        if header.rsv1 || header.rsv2 || header.rsv3 {
            return Err(Violation::protocol("reserved bit set"));
        }
        if payload > MAX_LENGTH {
            return Err(Violation::protocol("length of 64 bits"));
        }
        let len = header.len(payload);
        if len as u64 != cursor.position() {
            return Err(Violation::protocol("length not minimally encoded"));
        }
        match (from, header.mask) {
            (Side::Client, None) => return Err(Violation::protocol("frame not masked")),
            (Side::Upstream, Some(_)) => return Err(Violation::protocol("frame masked")),
            _ => {}
        }
        let opcode = from_tungstenite(header.opcode)?;
        let header = Self {
            opcode,
            fin: header.is_final,
            mask: header.mask,
            payload,
            len,
        };
        header.check_control()?;
        Ok(Some(header))
    }

    /// Returns whether the frame is none of a message.
    pub(super) const fn is_control(&self) -> bool {
        is_control(self.opcode)
    }

    fn check_control(&self) -> Result<(), Violation> {
        if !self.is_control() {
            return Ok(());
        }
        if !self.fin {
            return Err(Violation::protocol("control frame fragmented"));
        }
        if self.payload > MAX_CONTROL {
            return Err(Violation::protocol("control frame too long"));
        }
        Ok(())
    }
}

/// Returns whether frames of this kind are none of a message.
pub(super) const fn is_control(opcode: WebSocketOpcode) -> bool {
    matches!(
        opcode,
        WebSocketOpcode::Close | WebSocketOpcode::Ping | WebSocketOpcode::Pong
    )
}

/// Returns the header of a frame that is sent.
pub(super) fn outgoing(opcode: WebSocketOpcode, fin: bool, mask: Option<[u8; 4]>) -> FrameHeader {
    let opcode = match opcode {
        WebSocketOpcode::Continuation => OpCode::Data(Data::Continue),
        WebSocketOpcode::Text => OpCode::Data(Data::Text),
        WebSocketOpcode::Binary => OpCode::Data(Data::Binary),
        WebSocketOpcode::Close => OpCode::Control(Control::Close),
        WebSocketOpcode::Ping => OpCode::Control(Control::Ping),
        WebSocketOpcode::Pong => OpCode::Control(Control::Pong),
    };
    FrameHeader {
        is_final: fin,
        opcode,
        mask,
        ..FrameHeader::default()
    }
}

fn from_tungstenite(opcode: OpCode) -> Result<WebSocketOpcode, Violation> {
    Ok(match opcode {
        OpCode::Data(Data::Continue) => WebSocketOpcode::Continuation,
        OpCode::Data(Data::Text) => WebSocketOpcode::Text,
        OpCode::Data(Data::Binary) => WebSocketOpcode::Binary,
        OpCode::Control(Control::Close) => WebSocketOpcode::Close,
        OpCode::Control(Control::Ping) => WebSocketOpcode::Ping,
        OpCode::Control(Control::Pong) => WebSocketOpcode::Pong,
        OpCode::Data(Data::Reserved(_)) | OpCode::Control(Control::Reserved(_)) => {
            return Err(Violation::protocol("reserved opcode"));
        }
    })
}
