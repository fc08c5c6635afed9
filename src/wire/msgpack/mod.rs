//! MessagePack, built on the markers and writers of `rmp`.

mod reader;
mod writer;

pub(super) use reader::Reader;
pub(super) use writer::Writer;

// The most frequent markers, in numerical order. The markers of short maps, arrays and strings
// contain the length in their low bits. They are defined here because the functions of `rmp` that
// convert markers are not inlined and always distinguish all markers.
const FIX_MAP: u8 = 0x80;
const FIX_ARRAY: u8 = 0x90;
const FIX_STR: u8 = 0xa0;
const NIL: u8 = 0xc0;
/// Never the first byte of a value.
const RESERVED: u8 = 0xc1;
const BIN_8: u8 = 0xc4;
const BIN_32: u8 = 0xc6;
const U_8: u8 = 0xcc;
const U_16: u8 = 0xcd;
const U_32: u8 = 0xce;
const U_64: u8 = 0xcf;
/// The last of the markers of integers, which begin with [`U_8`].
const I_64: u8 = 0xd3;
/// The first of the negative numbers that are their own marker.
const FIX_NEGATIVE: u8 = 0xe0;
const STR_8: u8 = 0xd9;
