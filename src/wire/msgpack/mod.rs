//! MessagePack by hand, on the markers and writers of `rmp`.

mod reader;
mod writer;

pub(super) use reader::Reader;
pub(super) use writer::Writer;

// The markers that nearly every value has, in the order of their numbers; those of short values have room for lengths.
// `rmp` makes them by functions that are not inlined, and tells one apart from all others at once.
const FIX_MAP: u8 = 0x80;
const FIX_ARRAY: u8 = 0x90;
const FIX_STR: u8 = 0xa0;
const NIL: u8 = 0xc0;
/// Nothing begins with it.
const RESERVED: u8 = 0xc1;
const STR_8: u8 = 0xd9;
