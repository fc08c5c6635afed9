//! MessagePack by hand, on the markers and writers of `rmp`.

mod reader;
mod writer;

pub(super) use reader::Reader;
pub(super) use writer::Writer;

// Markers of short values, with room for their lengths, and those between them, in the order of their numbers. `rmp` makes
// them by functions that are not inlined, and tells them apart from all others one by one.
const FIX_MAP: u8 = 0x80;
const FIX_ARRAY: u8 = 0x90;
const FIX_STR: u8 = 0xa0;
const NIL: u8 = 0xc0;
const STR_8: u8 = 0xd9;
