//! The rules of RFC 6455 for the sequence of a sender's frames, and for their payloads.

use super::close::{self, INVALID_DATA, PROTOCOL_ERROR, TOO_BIG};
use super::header::Header;
use super::limits::Limits;
use tollgate::events::WebSocketOpcode;

/// A rule that a peer has broken, as it is told to both peers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Violation {
    pub(super) code: u16,
    pub(super) reason: &'static str,
}

impl Violation {
    pub(super) const fn protocol(reason: &'static str) -> Self {
        Self {
            code: PROTOCOL_ERROR,
            reason,
        }
    }

    const fn invalid(reason: &'static str) -> Self {
        Self {
            code: INVALID_DATA,
            reason,
        }
    }

    const fn too_big(reason: &'static str) -> Self {
        Self {
            code: TOO_BIG,
            reason,
        }
    }
}

/// State of a sender's messages.
#[derive(Debug, Default)]
pub(super) struct Sequence {
    /// The message whose last fragment has not been received.
    message: Option<Message>,
}

#[derive(Debug)]
struct Message {
    /// Sum of the payloads so far.
    length: u64,
    /// Set in text messages.
    text: Option<Utf8>,
}

impl Sequence {
    /// Returns whether the fragments so far end within a character of a text.
    pub(super) fn is_within_character(&self) -> bool {
        let text = self
            .message
            .as_ref()
            .and_then(|message| message.text.as_ref());
        text.is_some_and(|text| !text.is_complete())
    }

    /// Checks a header before its payload is read.
    pub(super) fn check_header(&self, header: &Header, limits: &Limits) -> Result<(), Violation> {
        if header.is_control() {
            return Ok(());
        }
        let is_continuation = header.opcode == WebSocketOpcode::Continuation;
        let length = match &self.message {
            None if is_continuation => return Err(Violation::protocol("nothing to continue")),
            Some(_) if !is_continuation => {
                return Err(Violation::protocol("message within a message"));
            }
            message => message.as_ref().map_or(0, |message| message.length),
        };
        if header.payload > limits.max_frame as u64 {
            return Err(Violation::too_big("frame too big"));
        }
        if length.saturating_add(header.payload) > limits.max_message as u64 {
            return Err(Violation::too_big("message too big"));
        }
        Ok(())
    }

    /// Checks a payload, and counts it to its message.
    pub(super) fn check_payload(
        &mut self,
        header: &Header,
        payload: &[u8],
    ) -> Result<(), Violation> {
        match header.opcode {
            WebSocketOpcode::Close => return check_close(payload),
            WebSocketOpcode::Ping | WebSocketOpcode::Pong => return Ok(()),
            WebSocketOpcode::Text => {
                self.message = Some(Message {
                    length: 0,
                    text: Some(Utf8::default()),
                });
            }
            WebSocketOpcode::Binary => {
                self.message = Some(Message {
                    length: 0,
                    text: None,
                });
            }
            WebSocketOpcode::Continuation => {}
        }
        let Some(message) = &mut self.message else {
            return Err(Violation::protocol("nothing to continue"));
        };
        message.length += payload.len() as u64;
        if let Some(text) = &mut message.text
            && (!text.push(payload) || (header.fin && !text.is_complete()))
        {
            return Err(Violation::invalid("text not UTF-8"));
        }
        if header.fin {
            self.message = None;
        }
        Ok(())
    }
}

fn check_close(payload: &[u8]) -> Result<(), Violation> {
    match payload {
        [] => Ok(()),
        [_] => Err(Violation::protocol("close code incomplete")),
        [high, low, reason @ ..] => {
            if !close::may_be_sent(u16::from_be_bytes([*high, *low])) {
                return Err(Violation::protocol("close code invalid"));
            }
            match std::str::from_utf8(reason) {
                Ok(_) => Ok(()),
                Err(_) => Err(Violation::invalid("close reason not UTF-8")),
            }
        }
    }
}

/// Checks a text that arrives in parts, which may end within a character.
#[derive(Debug, Default)]
struct Utf8 {
    /// The start of a character, of which `len` bytes are set.
    partial: [u8; 4],
    len: usize,
}

impl Utf8 {
    /// Returns whether the parts so far are the start of a text.
    fn push(&mut self, mut part: &[u8]) -> bool {
        while self.len > 0
            && let Some((first, rest)) = part.split_first()
        {
            part = rest;
            self.partial[self.len] = *first;
            self.len += 1;
            match std::str::from_utf8(&self.partial[..self.len]) {
                Ok(_) => self.len = 0,
                // Never with all four bytes set: those are a character, or invalid.
                Err(error) if error.error_len().is_none() => {}
                Err(_) => return false,
            }
        }
        let Err(error) = std::str::from_utf8(part) else {
            return true;
        };
        if error.error_len().is_some() {
            return false;
        }
        let start = &part[error.valid_up_to()..];
        self.partial[..start.len()].copy_from_slice(start);
        self.len = start.len();
        true
    }

    /// Returns whether the text may end here.
    fn is_complete(&self) -> bool {
        self.len == 0
    }
}
