//! Base64 with the standard alphabet and padding, in which bodies are texts.

use base64_simd::STANDARD;
use tollgate::Bytes;

pub(crate) fn encode(data: &[u8]) -> String {
    STANDARD.encode_to_string(data)
}

/// Returns what a text encodes. A text that is not base64 stands for its own bytes.
pub(crate) fn decode_or_keep(text: &str) -> Bytes {
    match STANDARD.decode_to_vec(text) {
        Ok(data) => data.into(),
        Err(_) => Bytes::copy_from_slice(text.as_bytes()),
    }
}
