//! Encoding and decoding of an agent's response to an event.

mod parts;
mod read;
mod write;

pub use read::Answer;
pub(super) use read::{from_json, from_msgpack};
pub(crate) use write::{AnswerTo, encode_answer};

/// Key of `audit.custom` that holds the correlation id of a response.
pub(super) const CORRELATION_ID: &str = "correlation_id";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::AgentResponse;
    use crate::wire::{Dialect, Encoding, Extension, StreamId};

    #[test]
    fn bare_allow_is_what_agents_send() {
        let dialect = Dialect::new(Encoding::MessagePack, Some(Extension::V1));
        let mut frame = Vec::new();
        let response = AgentResponse::default_allow();
        encode_answer(
            &response,
            AnswerTo::Stream(StreamId(7)),
            dialect,
            &mut frame,
        )
        .unwrap();
        assert!(frame.ends_with(read::ENCODED_ALLOW));
        let payload = bytes::Bytes::from_static(read::ENCODED_ALLOW);
        let decoded = from_msgpack(&payload, |answer| answer.response);
        assert_eq!(decoded.unwrap(), response);
    }
}
