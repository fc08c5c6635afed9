//! Denials, as the parts that HAProxy makes a response of.

use super::changes::{ended, put_pair};
use http::header::{CONTENT_LENGTH, CONTENT_TYPE, LOCATION, WWW_AUTHENTICATE};
use http::{HeaderMap, HeaderName, HeaderValue, Response, StatusCode};
use tollgate::proxy::{answer_of, apply_header_ops, plain_answer};
use tollgate::{AgentResponse, Bytes, Decision};

/// The response that a denial gives the client.
pub(super) struct Denial {
    pub(super) status: StatusCode,
    /// Target of a redirect.
    pub(super) location: Option<HeaderValue>,
    pub(super) authenticate: Option<HeaderValue>,
    pub(super) body: Bytes,
    /// The other headers.
    headers: HeaderMap,
}

impl Denial {
    /// Returns the denial of a verdict that does not allow.
    pub(super) fn of(verdict: &AgentResponse) -> Self {
        let answer = answer_of(&verdict.decision);
        let mut answer = answer.unwrap_or_else(|| plain_answer(StatusCode::FORBIDDEN));
        let had_type = answer.headers().get(CONTENT_TYPE).cloned();
        // Changes that are not valid do not make the denial less of one.
        let _ = apply_header_ops(answer.headers_mut(), &verdict.response_headers);
        let is_redirect = matches!(verdict.decision, Decision::Redirect { .. });
        Self::from_http(answer, had_type.as_ref(), is_redirect)
    }

    fn from_http(
        mut answer: Response<Bytes>,
        had_type: Option<&HeaderValue>,
        is_redirect: bool,
    ) -> Self {
        let status = answer.status();
        let headers = answer.headers_mut();
        headers.remove(CONTENT_LENGTH);
        // The type of a text is a constant of the configuration.
        if headers.get(CONTENT_TYPE) == had_type && had_type.is_some_and(is_text) {
            headers.remove(CONTENT_TYPE);
        }
        let location = if is_redirect && status.is_redirection() {
            headers.remove(LOCATION)
        } else {
            None
        };
        let authenticate = if status == StatusCode::UNAUTHORIZED {
            headers.remove(WWW_AUTHENTICATE)
        } else {
            None
        };
        let headers = std::mem::take(headers);
        Self {
            status,
            location,
            authenticate,
            body: answer.into_body(),
            headers,
        }
    }

    /// Returns the other headers, each with its last value.
    pub(super) fn headers(&self) -> impl Iterator<Item = (&HeaderName, &HeaderValue)> {
        self.headers.keys().filter_map(|name| {
            let last = self.headers.get_all(name).iter().next_back()?;
            Some((name, last))
        })
    }

    /// Writes the other headers, in the form of `set-headers-bin`.
    pub(super) fn header_list(&self) -> Vec<u8> {
        let mut list = Vec::new();
        for (name, value) in self.headers() {
            put_pair(&mut list, name, value);
        }
        ended(list, b"\0\0")
    }
}

fn is_text(content_type: &HeaderValue) -> bool {
    content_type == "text/plain; charset=utf-8"
}
