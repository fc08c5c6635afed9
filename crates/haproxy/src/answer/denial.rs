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
    pub(super) headers: Vec<DenialHeader>,
}

/// A header of a denial.
pub(super) struct DenialHeader {
    pub(super) name: HeaderName,
    /// Number of the value among those of its name, from 1. The first one replaces what HAProxy has
    /// written, and the others are added.
    pub(super) number: usize,
    pub(super) value: HeaderValue,
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
        let authenticate = match status {
            StatusCode::UNAUTHORIZED => headers.get(WWW_AUTHENTICATE).cloned(),
            _ => None,
        };
        let mut others = numbered(headers);
        let is_said = |header: &DenialHeader| {
            authenticate.is_some() && header.name == WWW_AUTHENTICATE && header.number == 1
        };
        others.retain(|header| !is_said(header));
        Self {
            status,
            location,
            authenticate,
            headers: others,
            body: answer.into_body(),
        }
    }

    /// Writes the headers that replace others, in the form of `set-headers-bin`.
    pub(super) fn set_list(&self) -> Vec<u8> {
        self.list(|header| header.number == 1)
    }

    /// Writes the headers that are added, in the form of `add-headers-bin`.
    pub(super) fn added_list(&self) -> Vec<u8> {
        self.list(|header| header.number > 1)
    }

    fn list(&self, is_part: impl Fn(&DenialHeader) -> bool) -> Vec<u8> {
        let mut list = Vec::new();
        for header in self.headers.iter().filter(|header| is_part(header)) {
            put_pair(&mut list, &header.name, &header.value);
        }
        ended(list, b"\0\0")
    }
}

fn numbered(headers: &HeaderMap) -> Vec<DenialHeader> {
    let of_name = headers.keys().flat_map(|name| {
        let values = headers.get_all(name).iter().enumerate();
        values.map(move |(at, value)| DenialHeader {
            name: name.clone(),
            number: at + 1,
            value: value.clone(),
        })
    });
    of_name.collect()
}

fn is_text(content_type: &HeaderValue) -> bool {
    content_type == "text/plain; charset=utf-8"
}
