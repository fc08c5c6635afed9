//! Encoding and decoding of an agent's response to an event.

mod parts;
mod read;
mod write;

pub(super) use parts::{Custom, read_confidence, read_custom};
pub use read::Answer;
pub(super) use read::{from_json, from_msgpack};
pub(crate) use write::{AnswerTo, encode_answer};

/// Key of `audit.custom` that holds the correlation id of a response.
pub(super) const CORRELATION_ID: &str = "correlation_id";
