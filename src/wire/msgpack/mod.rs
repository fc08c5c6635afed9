//! MessagePack by hand, on the markers and writers of `rmp`.

mod reader;
mod writer;

pub(super) use reader::Reader;
pub(super) use writer::Writer;
