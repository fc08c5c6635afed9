//! The header `content-encoding`.

use super::{Coding, CodingError};
use http::header::{CONTENT_ENCODING, HeaderMap};

/// Returns the coding that `content-encoding` names; `None` if the body is not encoded.
///
/// All values count, as one list. `identity` and empty elements of the list are ignored.
///
/// # Errors
///
/// [`CodingError::Unknown`] if any coding is unknown, [`CodingError::Multiple`] if there are
/// several.
pub(crate) fn content_coding(headers: &HeaderMap) -> Result<Option<Coding>, CodingError> {
    let mut found = None;
    let mut is_multiple = false;
    let values = headers.get_all(CONTENT_ENCODING).iter();
    let elements = values.flat_map(|value| value.as_bytes().split(|byte| *byte == b','));
    for element in elements {
        let token = trim_white_space(element);
        if token.is_empty() || token.eq_ignore_ascii_case(b"identity") {
            continue;
        }
        let coding = Coding::named(token).ok_or(CodingError::Unknown)?;
        is_multiple |= found.replace(coding).is_some();
    }
    if is_multiple {
        return Err(CodingError::Multiple);
    }
    Ok(found)
}

/// Removes what HTTP allows around elements of a list, which is less than `trim_ascii` removes.
fn trim_white_space(mut element: &[u8]) -> &[u8] {
    while let [b' ' | b'\t', rest @ ..] | [rest @ .., b' ' | b'\t'] = element {
        element = rest;
    }
    element
}

#[cfg(test)]
#[path = "../../../tests/unit/proxy/coding/header.rs"]
mod tests;
