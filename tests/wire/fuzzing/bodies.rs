//! Bodies with a content coding.

use super::input::Input;
use tollgate::bench::{CODINGS, decode_body};

/// Bytes that a body may decode to.
const MAX_SIZE: usize = 256 * 1024;

/// Bytes that a decoder may have allocated at a time: brotli's window of 16 MiB and its tables,
/// and what is decoded. zstd allocates in C, which is not counted.
const ALLOWED_BYTES: u64 = 20 * 1024 * 1024;

/// Decodes a body as a whole and in pieces, and checks that the results are the same.
///
/// The choice selects the coding and the length of the pieces.
pub fn decode(input: &Input) {
    let coding = CODINGS[usize::from(input.choice) % CODINGS.len()];
    let piece_len = usize::from(input.choice) / CODINGS.len() + 1;
    let allocated = allocation_counter::measure(|| {
        let whole = decode_body(coding, MAX_SIZE, [&input.bytes[..]]);
        assert!(whole.as_ref().map_or(0, Vec::len) <= MAX_SIZE);
        // Of several errors in a body, either may be found first.
        let pieces = decode_body(coding, MAX_SIZE, input.bytes.chunks(piece_len));
        assert_eq!(whole.ok(), pieces.ok());
    });
    assert!(allocated.bytes_max <= ALLOWED_BYTES, "{allocated:?}");
}
