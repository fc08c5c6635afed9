//! HTTP responses for decisions and errors.

use crate::error::CallError;
use crate::log::{NO_PEER, log_line};
use crate::protocol::Decision;
use bytes::Bytes;
use http::header::{CONTENT_LENGTH, CONTENT_TYPE, LOCATION, WWW_AUTHENTICATE};
use http::{HeaderMap, HeaderName, HeaderValue, Response, StatusCode};
use std::collections::HashMap;
use std::fmt::Write;

/// Returns the response that a decision gives the client in place of the upstream's; `None` for
/// [`Decision::Allow`].
///
/// A request stays denied even if the decision holds values that HTTP does not permit:
///
/// * A block has the agent's status if that is a final status that may have a body (200 to 599, not
///   204, 205 or 304), otherwise 403. Invalid headers, `content-length` and the headers of the
///   connection are dropped.
/// * A redirect has the agent's status if that is 3xx (not 304), otherwise 302. If the URL is not a
///   valid header value, the response is 502.
/// * A challenge is a 401 with `www-authenticate: TYPE name="value", …`, with the names in
///   alphabetical order, or 403 if it cannot be written in this form.
///
/// `content-length` is set in all of them.
///
/// ```
/// use tollgate::{Decision, proxy::answer_of};
///
/// assert!(answer_of(&Decision::Allow).is_none());
/// let redirect = Decision::Redirect { url: "/login".to_owned(), status: 302 };
/// assert_eq!(answer_of(&redirect).unwrap().headers()["location"], "/login");
/// ```
pub fn answer_of(decision: &Decision) -> Option<Response<Bytes>> {
    match decision {
        Decision::Allow => None,
        Decision::Block {
            status,
            body,
            headers,
        } => Some(block(*status, body.as_deref(), headers.as_ref())),
        Decision::Redirect { url, status } => Some(redirect(url, *status)),
        Decision::Challenge {
            challenge_type,
            params,
        } => Some(challenge(challenge_type, params)),
    }
}

/// Returns a response with this status and an empty body.
pub fn plain_answer(status: StatusCode) -> Response<Bytes> {
    with_body(status, Bytes::new())
}

/// Returns the HTTP status for a client whose request was not decided on because a call to an agent
/// that fails closed failed.
///
/// * 503 if the agent is unavailable, paused or busy, or the call was cancelled
/// * 504 if it did not answer in time
/// * 413 if the message is too large
/// * 502 if its answer could not be decoded
/// * 500 for faults of the proxy itself, such as an agent that was never added to the pool
pub fn status_of(error: &CallError) -> StatusCode {
    match error {
        CallError::Timeout { .. } => StatusCode::GATEWAY_TIMEOUT,
        CallError::MessageTooLarge { .. } => StatusCode::PAYLOAD_TOO_LARGE,
        CallError::InvalidMessage { .. } => StatusCode::BAD_GATEWAY,
        error if error.is_retryable() => StatusCode::SERVICE_UNAVAILABLE,
        CallError::Cancelled { .. } => StatusCode::SERVICE_UNAVAILABLE,
        _ => StatusCode::INTERNAL_SERVER_ERROR,
    }
}

fn block(
    status: u16,
    body: Option<&str>,
    headers: Option<&HashMap<String, String>>,
) -> Response<Bytes> {
    let status = StatusCode::from_u16(status)
        .ok()
        .filter(|status| (200..600).contains(&status.as_u16()) && may_have_body(*status))
        .unwrap_or(StatusCode::FORBIDDEN);
    let body = body.map(|body| Bytes::copy_from_slice(body.as_bytes()));
    let mut answer = with_body(status, body.unwrap_or_default());
    if !answer.body().is_empty() {
        let text = HeaderValue::from_static("text/plain; charset=utf-8");
        answer.headers_mut().insert(CONTENT_TYPE, text);
    }
    for (name, value) in headers.into_iter().flatten() {
        insert_valid(answer.headers_mut(), name, value);
    }
    answer
}

fn may_have_body(status: StatusCode) -> bool {
    !matches!(
        status,
        StatusCode::NO_CONTENT | StatusCode::RESET_CONTENT | StatusCode::NOT_MODIFIED
    )
}

fn insert_valid(headers: &mut HeaderMap, name: &str, value: &str) {
    let op = crate::protocol::HeaderOp::Set {
        name: name.to_owned(),
        value: value.to_owned(),
    };
    if let Err(error) = super::apply_header_ops(headers, &[op]) {
        log_line!(
            warn,
            NO_PEER,
            { error },
            "invalid header of an agent's answer dropped"
        );
    }
}

fn redirect(url: &str, status: u16) -> Response<Bytes> {
    let Ok(url) = HeaderValue::from_bytes(url.as_bytes()) else {
        return plain_answer(StatusCode::BAD_GATEWAY);
    };
    let status = StatusCode::from_u16(status)
        .ok()
        .filter(|status| status.is_redirection() && may_have_body(*status))
        .unwrap_or(StatusCode::FOUND);
    let mut answer = plain_answer(status);
    answer.headers_mut().insert(LOCATION, url);
    answer
}

fn challenge(challenge_type: &str, params: &HashMap<String, String>) -> Response<Bytes> {
    let Some(value) = authenticate(challenge_type, params) else {
        return plain_answer(StatusCode::FORBIDDEN);
    };
    let mut answer = plain_answer(StatusCode::UNAUTHORIZED);
    answer.headers_mut().insert(WWW_AUTHENTICATE, value);
    answer
}

/// Writes a challenge in the form of RFC 9110, section 11.3; `None` if that is not possible.
fn authenticate(scheme: &str, params: &HashMap<String, String>) -> Option<HeaderValue> {
    // Header names and tokens have the same grammar.
    let is_token = |text: &str| HeaderName::from_bytes(text.as_bytes()).is_ok();
    if !is_token(scheme) || !params.keys().all(|name| is_token(name)) {
        return None;
    }
    let mut params: Vec<_> = params.iter().collect();
    params.sort_unstable();
    let mut text = scheme.to_owned();
    for (index, (name, value)) in params.into_iter().enumerate() {
        let separator = if index == 0 { " " } else { ", " };
        let value = value.replace('\\', "\\\\").replace('"', "\\\"");
        // Writing to a `String` never fails.
        let _ = write!(text, "{separator}{name}=\"{value}\"");
    }
    HeaderValue::from_bytes(text.as_bytes()).ok()
}

fn with_body(status: StatusCode, body: Bytes) -> Response<Bytes> {
    let length = HeaderValue::from(body.len());
    let mut answer = Response::new(body);
    *answer.status_mut() = status;
    answer.headers_mut().insert(CONTENT_LENGTH, length);
    answer
}
