//! A rule: its conditions, and its effects where they hold.

use bytes::Bytes;
use ipnet::IpNet;
use memchr::memmem::Finder;
use serde::Deserialize;
use std::borrow::Cow;
use std::net::IpAddr;
use std::time::Duration;
use tollgate::{
    Decision, EventType, HeaderOp, HeadersView, RequestHeadersView, response::AuditMetadata,
};

/// A rule. Its effects apply to each event of its phase for which all conditions hold.
pub(crate) struct Rule {
    pub(super) on: Phase,
    pub(super) conditions: Conditions,
    /// Set if the rule waits for the end of the body.
    pub(super) hold: bool,
    /// Set if the rule was made for an option of the command line.
    #[cfg_attr(not(feature = "haproxy"), allow(dead_code))]
    pub(super) is_of_option: bool,
    pub(super) effects: Effects,
}

/// The part of an exchange that a rule is about, in the order of time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Phase {
    RequestHeaders,
    RequestBody,
    ResponseHeaders,
    ResponseBody,
}

/// The conditions of a rule, all of which have to hold.
#[derive(Default)]
pub(crate) struct Conditions {
    /// Prefixes of which the path has one; empty for any path.
    pub(super) paths: Vec<String>,
    pub(super) method: Option<String>,
    pub(super) client_ip: Option<IpNet>,
    /// Applies to the request on request phases, and to the response on response phases.
    pub(super) header: Option<HeaderCondition>,
    pub(super) body_contains: Option<Finder<'static>>,
}

/// A text that a value of a header contains.
pub(crate) struct HeaderCondition {
    pub(super) name: String,
    /// The text in lower case.
    pub(super) contains: String,
}

/// The effects of a rule.
#[derive(Default)]
pub(crate) struct Effects {
    /// Denies the request. Never [`Decision::Allow`].
    pub(crate) verdict: Option<Decision>,
    pub(crate) request_headers: Vec<HeaderOp>,
    pub(crate) response_headers: Vec<HeaderOp>,
    /// New content of the body; empty to drop it.
    pub(crate) body: Option<Bytes>,
    pub(crate) delay: Duration,
    pub(crate) panics: bool,
    pub(crate) audit: AuditMetadata,
}

/// Outcome of conditions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fact {
    Holds,
    Fails,
    Unknown(Unknown),
}

/// The missing knowledge of a rule.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Unknown {
    /// The request has no path.
    Path,
    /// The proxy does not tell the method.
    Method,
    /// The client's address is missing or no address.
    ClientIp,
    /// The agent has not seen the head of the request, or has forgotten it.
    RequestHead,
    /// The agent has not seen the head of the response, or has forgotten it.
    ResponseHead,
    /// The agent has not seen the beginning of the body, or has forgotten it.
    BodyBeginning,
    /// The id of the exchange is too long to remember anything for it.
    LongId,
    /// More of the body would have to be withheld than the limit allows.
    LongBody,
}

/// The head of a request, as conditions look at it.
pub(super) struct RequestHead<'a> {
    path: Cow<'a, str>,
    method: &'a str,
    client_ip: Option<IpAddr>,
    headers: HeadersView<'a>,
}

impl Rule {
    /// Creates a rule of an option, without conditions.
    pub(crate) fn new(on: Phase, effects: Effects) -> Self {
        Self {
            on,
            conditions: Conditions::default(),
            hold: false,
            is_of_option: true,
            effects,
        }
    }

    /// Limits the rule to paths that begin with one of these prefixes, if there are any.
    pub(crate) fn on_paths(mut self, prefixes: Vec<String>) -> Self {
        self.conditions.paths = prefixes;
        self
    }

    /// Limits the rule to bodies that contain this text.
    pub(crate) fn on_text(mut self, text: &str) -> Self {
        self.conditions.body_contains = Some(Finder::new(text).into_owned());
        self
    }

    /// Returns whether the rule is tried in this phase.
    pub(super) fn is_tried_in(&self, phase: Phase) -> bool {
        self.on == phase || self.hold && self.on.body() == phase
    }

    pub(super) fn needs_request_head(&self) -> bool {
        let conditions = &self.conditions;
        !conditions.paths.is_empty()
            || conditions.method.is_some()
            || conditions.client_ip.is_some()
            || conditions.header.is_some() && self.on.is_of_request()
    }

    pub(super) fn needs_response_head(&self) -> bool {
        self.conditions.header.is_some() && !self.on.is_of_request()
    }

    /// Returns whether the rule looks at events of this type.
    pub(super) fn looks_at(&self, event_type: EventType) -> bool {
        let needs_head = match event_type {
            EventType::RequestHeaders => self.needs_request_head(),
            EventType::ResponseHeaders => self.needs_response_head(),
            _ => false,
        };
        needs_head
            || Phase::ALL
                .into_iter()
                .any(|phase| phase.event_type() == event_type && self.is_tried_in(phase))
    }

    /// Tells whether the conditions hold that the head of the request decides.
    pub(super) fn judge_request(&self, head: &RequestHead<'_>) -> Fact {
        let conditions = &self.conditions;
        let header = conditions.header.as_ref();
        let header = header.filter(|_| self.on.is_of_request());
        conditions
            .judge_method(head.method)
            .and(Fact::of(
                header.is_none_or(|header| header.holds_for(&head.headers)),
            ))
            .and(conditions.judge_path(&head.path))
            .and(conditions.judge_client_ip(head.client_ip))
    }

    /// Tells whether the conditions hold that the head of the response decides.
    pub(super) fn judge_response(&self, headers: &HeadersView<'_>) -> Fact {
        let header = self.conditions.header.as_ref();
        let header = header.filter(|_| !self.on.is_of_request());
        Fact::of(header.is_none_or(|header| header.holds_for(headers)))
    }
}

impl Conditions {
    fn judge_path(&self, path: &str) -> Fact {
        if self.paths.is_empty() {
            return Fact::Holds;
        }
        if !path.starts_with('/') {
            return Fact::Unknown(Unknown::Path);
        }
        let mut prefixes = self.paths.iter();
        Fact::of(prefixes.any(|prefix| path.starts_with(prefix.as_str())))
    }

    fn judge_method(&self, method: &str) -> Fact {
        match &self.method {
            None => Fact::Holds,
            Some(_) if method.is_empty() => Fact::Unknown(Unknown::Method),
            Some(wanted) => Fact::of(wanted == method),
        }
    }

    fn judge_client_ip(&self, address: Option<IpAddr>) -> Fact {
        match (self.client_ip, address) {
            (None, _) => Fact::Holds,
            (Some(_), None) => Fact::Unknown(Unknown::ClientIp),
            (Some(network), Some(address)) => Fact::of(network.contains(&address)),
        }
    }
}

impl HeaderCondition {
    fn holds_for(&self, headers: &HeadersView<'_>) -> bool {
        headers
            .get_all(&self.name)
            .any(|value| value.to_lowercase().contains(&self.contains))
    }
}

impl Phase {
    pub(super) const ALL: [Self; 4] = [
        Self::RequestHeaders,
        Self::RequestBody,
        Self::ResponseHeaders,
        Self::ResponseBody,
    ];

    /// Returns the phase of the body of the same message.
    pub(super) const fn body(self) -> Self {
        if self.is_of_request() {
            Self::RequestBody
        } else {
            Self::ResponseBody
        }
    }

    pub(super) const fn is_of_request(self) -> bool {
        matches!(self, Self::RequestHeaders | Self::RequestBody)
    }

    pub(super) const fn is_body(self) -> bool {
        matches!(self, Self::RequestBody | Self::ResponseBody)
    }

    pub(super) const fn event_type(self) -> EventType {
        match self {
            Self::RequestHeaders => EventType::RequestHeaders,
            Self::RequestBody => EventType::RequestBodyChunk,
            Self::ResponseHeaders => EventType::ResponseHeaders,
            Self::ResponseBody => EventType::ResponseBodyChunk,
        }
    }
}

impl Fact {
    const fn of(holds: bool) -> Self {
        if holds { Self::Holds } else { Self::Fails }
    }

    /// Combines two conditions. If one fails, the other need not be known.
    pub(super) fn and(self, other: Self) -> Self {
        match (self, other) {
            (Self::Fails, _) | (_, Self::Fails) => Self::Fails,
            (Self::Unknown(unknown), _) | (_, Self::Unknown(unknown)) => Self::Unknown(unknown),
            (Self::Holds, Self::Holds) => Self::Holds,
        }
    }
}

impl Unknown {
    /// Returns the reason code of the answer that fails the request.
    pub(super) const fn reason_code(self) -> &'static str {
        match self {
            Self::Path => "unknown_path",
            Self::Method => "unknown_method",
            Self::ClientIp => "unknown_client_ip",
            Self::RequestHead => "unknown_request_headers",
            Self::ResponseHead => "unknown_response_headers",
            Self::BodyBeginning => "body_without_beginning",
            Self::LongId => "correlation_id_too_long",
            Self::LongBody => "body_too_long_to_hold",
        }
    }
}

impl<'a> RequestHead<'a> {
    pub(super) fn of(event: &RequestHeadersView<'a>) -> Self {
        let client_ip = event.metadata.client_ip.parse().ok();
        Self {
            path: event.path(),
            method: event.method,
            client_ip: client_ip.map(|address: IpAddr| address.to_canonical()),
            headers: event.headers,
        }
    }
}
