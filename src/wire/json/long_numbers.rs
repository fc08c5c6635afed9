//! Rejection of malformed long numbers, which simd-json accepts.

use serde::de::IgnoredAny;

/// simd-json checks the character after a number only if the number is shorter than this.
const UNCHECKED_LEN: usize = 19;

/// Returns whether a long number is followed by an invalid character, as in `1000000000000000000x`.
///
/// simd-json would silently skip the rest.
pub(super) fn has_malformed_long_number(json: &[u8]) -> bool {
    may_have_malformed_number(json) && serde_json::from_slice::<IgnoredAny>(json).is_err()
}

/// Returns whether a long run of digits outside of strings needs the full check.
///
/// Inspects every [`UNCHECKED_LEN`]th byte, since a run of that length contains one of them.
fn may_have_malformed_number(json: &[u8]) -> bool {
    let mut strings = Strings::default();
    let mut index = UNCHECKED_LEN - 1;
    while let Some(byte) = json.get(index) {
        if is_in_number(*byte) {
            let before = run_len(json[..index].iter().rev());
            let start = index - before;
            let end = index + run_len(json[index..].iter());
            let (run, rest) = (&json[start..end], &json[end..]);
            if run.len() >= UNCHECKED_LEN
                && !is_complete_integer(run, rest)
                && !strings.contain(json, start)
            {
                return true;
            }
            index = end;
        }
        index += UNCHECKED_LEN;
    }
    false
}

/// Tracks which bytes are inside of strings, by their quotes.
///
/// The result is exact up to the first syntax error. simd-json rejects every error except the one
/// that this module looks for, and the first of those comes before any other.
#[derive(Default)]
struct Strings {
    scanned: usize,
    is_open: bool,
}

impl Strings {
    /// Returns whether `index` is inside of a string. `index` must not decrease between calls.
    fn contain(&mut self, json: &[u8], index: usize) -> bool {
        while let Some(found) = memchr::memchr2(b'"', b'\\', &json[self.scanned..index]) {
            let at = self.scanned + found;
            let is_escape = json[at] == b'\\';
            if is_escape && at + 1 >= index {
                break;
            }
            if !is_escape {
                self.is_open = !self.is_open;
            }
            self.scanned = at + 1 + usize::from(is_escape);
        }
        self.is_open
    }
}

fn run_len<'a>(bytes: impl Iterator<Item = &'a u8>) -> usize {
    bytes.take_while(|byte| is_in_number(**byte)).count()
}

/// Returns whether a byte may occur in a number before its exponent. Only that part counts towards
/// [`UNCHECKED_LEN`].
const fn is_in_number(byte: u8) -> bool {
    matches!(byte, b'0'..=b'9' | b'.')
}

/// Returns whether a run of digits is a complete integer. Fractions are left to the full check.
fn is_complete_integer(run: &[u8], rest: &[u8]) -> bool {
    run.iter().all(u8::is_ascii_digit) && rest.first().is_none_or(|next| may_follow(*next))
}

/// Returns whether a byte may follow a number.
///
/// This includes a quote: simd-json rejects a quote after a number, and within a string that looks
/// like a number the quote is valid.
const fn may_follow(byte: u8) -> bool {
    matches!(
        byte,
        b',' | b']' | b'}' | b':' | b'"' | b' ' | b'\t' | b'\r' | b'\n'
    )
}

#[cfg(test)]
#[path = "../../../tests/unit/wire/json/long_numbers.rs"]
mod tests;
