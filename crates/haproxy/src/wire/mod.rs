//! SPOP 2.0: frames, typed data, and the payloads of frames. Bytes in, bytes out; no I/O.

mod frame;
mod hello;
mod payload;
mod reader;
mod value;
mod writer;

pub use frame::{Flags, Frame, FrameId, FrameKind, MIN_FRAME_SIZE, next_frame, put_frame};
pub use hello::{AgentHello, Disconnect, Hello};
pub use payload::{Action, Actions, Argument, Arguments, Message, Messages, Scope};
pub use reader::Reader;
pub use value::Value;
pub use writer::Writer;

/// Version of the protocol that is spoken.
pub const VERSION: &str = "2.0";

/// Bytes that are not SPOP.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Malformed {
    /// The data ends within a value.
    #[error("the data ends within a value")]
    Truncated,
    /// A number takes more than ten bytes, or does not fit into 64 bits.
    #[error("a number is too long")]
    LongNumber,
    /// A value has a type that does not exist.
    #[error("a value has the unknown type {0}")]
    UnknownType(u8),
    /// A number does not fit its type.
    #[error("a number does not fit its type")]
    OutOfRange,
    /// An action is unknown, or has a scope or a number of arguments that does not exist.
    #[error("an action is unknown")]
    UnknownAction,
}

/// Reason of the end of a connection, with the number that SPOP gives it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
#[repr(u32)]
pub enum Status {
    /// Nothing is wrong.
    #[error("normal")]
    Normal = 0,
    /// The peer took too long.
    #[error("timeout")]
    Timeout = 2,
    /// A frame is larger than the limit.
    #[error("frame is too big")]
    FrameTooBig = 3,
    /// A frame is not valid, or not one that may come at this point.
    #[error("invalid frame")]
    InvalidFrame = 4,
    /// A hello has no version.
    #[error("version value not found")]
    NoVersion = 5,
    /// A hello has no size limit of frames.
    #[error("max-frame-size value not found")]
    NoMaxFrameSize = 6,
    /// A hello has no capabilities.
    #[error("capabilities value not found")]
    NoCapabilities = 7,
    /// The versions of both sides differ.
    #[error("unsupported version")]
    UnsupportedVersion = 8,
    /// The size limit of frames is too small.
    #[error("max-frame-size too big or too small")]
    BadMaxFrameSize = 9,
    /// A payload comes in pieces.
    #[error("payload fragmentation is not supported")]
    Fragmented = 10,
    /// This side has no memory left, or stops.
    #[error("not enough resources")]
    Resources = 13,
}

impl Status {
    /// Returns the number on the wire.
    pub const fn code(self) -> u32 {
        self as u32
    }
}
