//! Text: fast conversion of received bytes to it, and types that hold it.

use std::str::Utf8Error;

/// Implements the traits of a type whose `as_str` returns its text.
macro_rules! text_type {
    ($kind:ident) => {
        impl std::ops::Deref for $kind {
            type Target = str;

            fn deref(&self) -> &str {
                self.as_str()
            }
        }

        impl std::fmt::Display for $kind {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.pad(self)
            }
        }

        impl std::fmt::Debug for $kind {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                std::fmt::Display::fmt(self, f)
            }
        }
    };
}

pub(super) use text_type;

/// Like [`std::str::from_utf8`], with a fast path for ASCII, which nearly every string is.
#[inline]
#[allow(unsafe_code)]
pub(crate) fn from_utf8(bytes: &[u8]) -> Result<&str, Utf8Error> {
    if is_ascii(bytes) {
        // SAFETY: ASCII is UTF-8.
        return Ok(unsafe { std::str::from_utf8_unchecked(bytes) });
    }
    std::str::from_utf8(bytes)
}

/// Like [`slice::is_ascii`], and faster for short strings: the last word is read from the end of
/// the slice and may overlap the words before it, where the standard library reads the rest byte by
/// byte.
#[inline]
fn is_ascii(bytes: &[u8]) -> bool {
    const HIGH_BITS: u64 = 0x8080_8080_8080_8080;
    let all = match (bytes.last_chunk(), bytes.first_chunk(), bytes.last_chunk()) {
        (Some(end), _, _) => {
            let (words, _) = bytes.as_chunks();
            words.iter().fold(u64::from_ne_bytes(*end), |all, word| {
                all | u64::from_ne_bytes(*word)
            })
        }
        (_, Some(start), Some(end)) => {
            u64::from(u32::from_ne_bytes(*start) | u32::from_ne_bytes(*end))
        }
        _ => bytes.iter().fold(0, |all, byte| all | u64::from(*byte)),
    };
    all & HIGH_BITS == 0
}

#[cfg(test)]
#[path = "../../tests/unit/protocol/text.rs"]
mod tests;
