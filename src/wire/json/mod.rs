//! JSON: read through simd-json's tape, written by hand.

mod long_numbers;
mod reader;
mod writer;

pub(super) use reader::Reader;
pub(crate) use reader::{Document, Tape};
pub(super) use writer::Writer;
