//! Comparison of tokens.

use subtle::{Choice, ConstantTimeEq};

/// Longest token, in bytes.
pub(super) const MAX_TOKEN_LEN: usize = 512;

/// Returns whether a token is one of the valid ones, in a time that does not reveal which of them
/// it resembles.
pub(super) fn is_valid<'t>(token: &str, valid: impl IntoIterator<Item = &'t String>) -> bool {
    if token.len() > MAX_TOKEN_LEN {
        return false;
    }
    let token = padded(token);
    let mut found = Choice::from(0);
    for candidate in valid {
        let (bytes, len) = padded(candidate);
        found |= token.0.ct_eq(&bytes) & token.1.ct_eq(&len);
    }
    found.into()
}

/// Pads a token to a fixed length, so that lengths are compared in constant time as well.
fn padded(token: &str) -> ([u8; MAX_TOKEN_LEN], u64) {
    let mut bytes = [0; MAX_TOKEN_LEN];
    let len = token.len().min(MAX_TOKEN_LEN);
    bytes[..len].copy_from_slice(&token.as_bytes()[..len]);
    (bytes, token.len() as u64)
}

#[cfg(test)]
#[path = "../../../tests/unit/pool/reverse/tokens.rs"]
mod tests;
