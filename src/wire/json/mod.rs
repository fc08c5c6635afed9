//! JSON. It is parsed with simd-json's tape and written directly.

mod long_numbers;
mod reader;
mod writer;

pub(super) use reader::Reader;
pub(crate) use reader::{Document, JsonParser};
pub(super) use writer::Writer;
