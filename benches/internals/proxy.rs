//! Content codings, for the tests of the codecs.

use super::coding::{BodyDecoder, CodingError, DecodeLimits, content_coding};
use http::header::{CONTENT_ENCODING, HeaderMap, HeaderValue};

/// Names of the codings that can be decoded.
pub const CODINGS: [&str; 4] = ["gzip", "deflate", "br", "zstd"];

/// Decodes a body that arrives in pieces. At most `max_size` bytes are decoded.
pub fn decode_body<'d>(
    coding: &'static str,
    max_size: usize,
    pieces: impl IntoIterator<Item = &'d [u8]>,
) -> Result<Vec<u8>, CodingError> {
    let value = HeaderValue::from_static(coding);
    let headers = HeaderMap::from_iter([(CONTENT_ENCODING, value)]);
    let coding = content_coding(&headers)?.ok_or(CodingError::Unknown)?;
    // When the ratio is checked depends on where the body is cut; the size decides in the end.
    let limits = DecodeLimits {
        max_ratio: u32::MAX,
        max_size,
    };
    let mut decoder = BodyDecoder::new(coding, limits);
    let mut out = Vec::new();
    for piece in pieces {
        decoder.push(piece, &mut out)?;
    }
    decoder.finish()?;
    Ok(out)
}
