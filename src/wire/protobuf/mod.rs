//! Protobuf, which gRPC connections speak: `proto/agent_v2.proto`.
//!
//! Events and answers are written from what callers have and read where they stand; everything else passes
//! through generated types.

#[cfg(test)]
pub(super) mod by_prost;
pub(super) mod control;
mod envelope;
mod events;
#[allow(
    clippy::all,
    dead_code,
    missing_docs,
    unnameable_types,
    unreachable_pub,
    unused_qualifications,
    reason = "made by prost-build"
)]
#[rustfmt::skip]
mod generated;
pub(super) mod handshake;
mod json_text;
mod reader;
mod response;
#[cfg(test)]
mod tests;
mod timestamp;
mod writer;

pub(crate) use envelope::{Direction, stream_id};
pub(super) use events::{
    write_chunk, write_complete, write_configure, write_event, write_guardrail,
    write_request_headers, write_response_headers, write_websocket,
};
pub(super) use reader::HeaderReader;
pub(super) use response::{decode_answer, write_response};
pub(super) use writer::Writer;
