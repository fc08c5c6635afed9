//! Headers that describe a body, when agents look into it or change it.

use super::body_flow::BodyFlow;
use super::chain::CodingMode;
use super::coding::Coding;
use super::head::tokens;
use super::header_ops::{HeaderOpError, HeaderTarget};
use http::header::{
    ACCEPT_ENCODING, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_RANGE, ETAG, HeaderName,
    HeaderValue, IF_RANGE, RANGE, TRANSFER_ENCODING,
};

/// Headers that are true of the original bytes only.
const OF_ORIGINAL: [HeaderName; 6] = [
    CONTENT_RANGE,
    ETAG,
    HeaderName::from_static("content-digest"),
    HeaderName::from_static("content-md5"),
    HeaderName::from_static("digest"),
    HeaderName::from_static("repr-digest"),
];

/// Adapts the headers of a message whose body goes on in another form than it came.
pub(super) fn describe(
    head: &mut impl HeaderTarget,
    flow: &mut BodyFlow,
) -> Result<(), HeaderOpError> {
    let Some(length) = flow.rewritten() else {
        return Ok(());
    };
    let without_coding = flow.is_decoded().then_some(CONTENT_ENCODING);
    for name in OF_ORIGINAL.iter().chain(&without_coding) {
        remove(head, name);
    }
    match length {
        Some(length) => {
            remove(head, &TRANSFER_ENCODING);
            head.set(CONTENT_LENGTH, HeaderValue::from(length))?;
        }
        None => remove(head, &CONTENT_LENGTH),
    }
    Ok(())
}

/// Asks the upstream for the whole body: a part that an agent has changed fits to no other part.
pub(super) fn ask_for_whole(head: &mut impl HeaderTarget) {
    remove(head, &RANGE);
    remove(head, &IF_RANGE);
}

/// Asks the upstream only for codings of the response that agents can look into.
pub(super) fn restrict_codings(
    head: &mut impl HeaderTarget,
    mode: CodingMode,
) -> Result<(), HeaderOpError> {
    match mode {
        CodingMode::Pass => return Ok(()),
        CodingMode::Refuse => {
            remove(head, &ACCEPT_ENCODING);
            return Ok(());
        }
        CodingMode::Decode => {}
    }
    let values = head.headers().get_all(ACCEPT_ENCODING);
    let all = || values.iter().flat_map(tokens);
    if all().all(is_acceptable) {
        return Ok(());
    }
    let kept: Vec<&[u8]> = all().filter(|item| is_acceptable(item)).collect();
    let kept = HeaderValue::from_bytes(&kept.join(&b", "[..]));
    match kept {
        Ok(kept) if !kept.is_empty() => head.set(ACCEPT_ENCODING, kept)?,
        _ => head.remove(&ACCEPT_ENCODING),
    }
    Ok(())
}

/// Returns whether an item of `accept-encoding` asks for nothing that agents cannot look into.
fn is_acceptable(item: &[u8]) -> bool {
    let name = item.split(|byte| *byte == b';').next().unwrap_or_default();
    let name = name.trim_ascii();
    name.eq_ignore_ascii_case(b"identity") || Coding::named(name).is_some()
}

fn remove(head: &mut impl HeaderTarget, name: &HeaderName) {
    if head.headers().contains_key(name) {
        head.remove(name);
    }
}
