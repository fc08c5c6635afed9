//! Frames: a length, a type, flags, two ids and a payload.

use super::{Malformed, Reader, Status, Writer};

/// The smallest size limit of frames that a peer may announce, in bytes.
pub const MIN_FRAME_SIZE: u32 = 256;

/// Bytes of the length.
pub(super) const LENGTH_LEN: usize = 4;

/// The type of a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FrameKind {
    /// A further piece of a payload.
    Unset,
    /// HAProxy begins.
    HaproxyHello,
    /// HAProxy leaves.
    HaproxyDisconnect,
    /// HAProxy asks.
    Notify,
    /// The agent begins.
    AgentHello,
    /// The agent leaves.
    AgentDisconnect,
    /// The agent answers.
    Ack,
    /// A type that does not exist.
    Unknown(u8),
}

impl FrameKind {
    const fn from_number(number: u8) -> Self {
        match number {
            0 => Self::Unset,
            1 => Self::HaproxyHello,
            2 => Self::HaproxyDisconnect,
            3 => Self::Notify,
            101 => Self::AgentHello,
            102 => Self::AgentDisconnect,
            103 => Self::Ack,
            unknown => Self::Unknown(unknown),
        }
    }

    const fn number(self) -> u8 {
        match self {
            Self::Unset => 0,
            Self::HaproxyHello => 1,
            Self::HaproxyDisconnect => 2,
            Self::Notify => 3,
            Self::AgentHello => 101,
            Self::AgentDisconnect => 102,
            Self::Ack => 103,
            Self::Unknown(number) => number,
        }
    }
}

/// The flags of a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Flags(pub u32);

impl Flags {
    /// The payload ends with this frame, as it always does here.
    pub const FIN: Self = Self(1);

    /// Returns whether the payload is whole, and nothing else is said.
    pub const fn is_whole(self) -> bool {
        self.0 == Self::FIN.0
    }
}

/// The ids that join a question and its answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct FrameId {
    /// Number of the stream. It may be 0, and does not join the request with its response.
    pub stream: u64,
    /// Number of the frame in the stream.
    pub frame: u64,
}

/// A frame, whose payload borrows from the received bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Frame<'a> {
    /// The type.
    pub kind: FrameKind,
    /// The flags.
    pub flags: Flags,
    /// The ids; both are 0 but for questions and answers.
    pub id: FrameId,
    /// The payload.
    pub payload: &'a [u8],
}

impl<'a> Frame<'a> {
    /// Reads a frame without its length.
    ///
    /// # Errors
    ///
    /// Any of [`Malformed`], if it has no valid ids.
    pub fn read(bytes: &'a [u8]) -> Result<Self, Malformed> {
        let mut reader = Reader::new(bytes);
        Ok(Self {
            kind: FrameKind::from_number(reader.byte()?),
            flags: Flags(reader.u32()?),
            id: FrameId {
                stream: reader.varint()?,
                frame: reader.varint()?,
            },
            payload: reader.rest(),
        })
    }
}

/// Returns the size of the next frame in bytes, without its length, once it is complete.
///
/// # Errors
///
/// [`Status::FrameTooBig`] as soon as its length is there, if it is above `limit`, and
/// [`Status::InvalidFrame`] if the frame is empty.
pub fn next_frame(bytes: &[u8], limit: usize) -> Result<Option<usize>, Status> {
    let Some((length, rest)) = bytes.split_first_chunk::<LENGTH_LEN>() else {
        return Ok(None);
    };
    let length = u32::from_be_bytes(*length) as usize;
    match length {
        0 => Err(Status::InvalidFrame),
        _ if length > limit => Err(Status::FrameTooBig),
        _ => Ok((rest.len() >= length).then_some(length)),
    }
}

/// Appends a frame with its length. `put_payload` appends its payload.
pub fn put_frame(
    out: &mut Vec<u8>,
    kind: FrameKind,
    id: FrameId,
    put_payload: impl FnOnce(&mut Writer<'_>),
) {
    let begin = out.len();
    out.extend_from_slice(&[0; LENGTH_LEN]);
    out.push(kind.number());
    out.extend_from_slice(&Flags::FIN.0.to_be_bytes());
    let mut writer = Writer(out);
    writer.varint(id.stream);
    writer.varint(id.frame);
    put_payload(&mut writer);
    let length = out.len() - begin - LENGTH_LEN;
    // Callers bound payloads by the size limit of frames, which has 32 bits.
    let length = u32::try_from(length).unwrap_or(u32::MAX);
    out[begin..begin + LENGTH_LEN].copy_from_slice(&length.to_be_bytes());
}
