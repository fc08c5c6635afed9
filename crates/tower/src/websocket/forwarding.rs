//! Frames that are forwarded, so that the receiver's messages stay valid when some are dropped.

use super::close::POLICY_VIOLATION;
use super::header::is_control;
use super::reader::IncomingFrame;
use bytes::Bytes;
use tollgate::events::WebSocketOpcode;

/// Close code and reason for a message that cannot be ended.
pub(super) const SPLIT_CHARACTER: (u16, &str) =
    (POLICY_VIOLATION, "message dropped within a character");

/// The messages of one direction, as their receiver sees them.
#[derive(Debug, Default)]
pub(super) struct Forwarding {
    /// Set from a dropped fragment to the end of its message.
    is_dropping: bool,
}

/// Frame for the receiver in place of one that was received.
#[derive(Debug)]
pub(super) struct OutgoingFrame {
    pub(super) opcode: WebSocketOpcode,
    pub(super) fin: bool,
    pub(super) data: Bytes,
}

/// The message that is dropped cannot be ended for the receiver: it ends within a character.
#[derive(Debug)]
pub(super) struct SplitCharacter;

impl Forwarding {
    /// Returns the frame to send for one that is forwarded, unless its message is being dropped.
    pub(super) fn forward(&mut self, frame: IncomingFrame) -> Option<OutgoingFrame> {
        let IncomingFrame {
            opcode, fin, data, ..
        } = frame;
        if self.is_dropping && !is_control(opcode) {
            self.is_dropping = !fin;
            return None;
        }
        Some(OutgoingFrame { opcode, fin, data })
    }

    /// Returns the frame to send for one that is dropped, if the receiver needs one.
    pub(super) fn drop_frame(
        &mut self,
        frame: &IncomingFrame,
    ) -> Result<Option<OutgoingFrame>, SplitCharacter> {
        let opcode = frame.opcode;
        if is_control(opcode) {
            let ends = opcode == WebSocketOpcode::Close;
            return Ok(ends.then(|| OutgoingFrame {
                opcode,
                fin: true,
                data: Bytes::new(),
            }));
        }
        let was_dropping = self.is_dropping;
        self.is_dropping = !frame.fin;
        if was_dropping || opcode != WebSocketOpcode::Continuation {
            return Ok(None);
        }
        if frame.is_within_character {
            return Err(SplitCharacter);
        }
        Ok(Some(OutgoingFrame {
            opcode,
            fin: true,
            data: Bytes::new(),
        }))
    }
}
