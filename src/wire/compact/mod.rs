//! Version 2 of the extension: events and answers in MessagePack by position instead of by name.
//!
//! `docs/protocol.md` describes the messages. Reading checks the structure of a message once.
//! Header values are checked as text only when a view is asked for text.

mod events;
mod header_names;
mod headers;
mod items;
mod numbers;
mod response;

pub(super) use events::{
    write_chunk, write_configure, write_request_headers, write_response_headers,
};
pub(super) use headers::{HeaderCursor, HeaderName, HeaderTexts};
pub(super) use items::{begin_event, write_last, write_unless_last};
pub(super) use numbers::{write_address, write_inspection_type, write_opcode};
pub(super) use response::{decode_answer, write_answer};
