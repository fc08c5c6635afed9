//! Settings of a listener for HAProxy.

use std::fmt;

/// Default size limit of frames, in bytes.
const DEFAULT_MAX_FRAME: usize = 1024 * 1024;

/// Settings of a [`SpopListener`](crate::SpopListener).
#[derive(Debug, Clone)]
pub struct SpopSettings {
    request_messages: Vec<String>,
    response_messages: Vec<String>,
    pub(crate) max_frame: usize,
    pub(crate) partial_bodies: PartialBodies,
    pub(crate) ignores_bodies: bool,
    pub(crate) dialect: Dialect,
    required: Vec<Needed>,
}

/// Names of messages and variables of another agent, which are understood and set beside those of
/// tollgate: a HAProxy that is configured for that agent asks this one as well.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Dialect {
    /// No others.
    #[default]
    Tollgate,
    /// Those of coraza-spoa: the messages `coraza-req` and `coraza-res`. The decision about a
    /// response is in `action` too.
    Coraza,
    /// Those of CrowdSec's bouncer: the messages `crowdsec-http-body`, `crowdsec-http-no-body` and
    /// `crowdsec-tcp`. The variable `remediation` is `allow` or `ban`.
    Crowdsec,
}

impl Dialect {
    const fn request_messages(self) -> &'static [&'static str] {
        match self {
            Self::Tollgate => &[],
            Self::Coraza => &["coraza-req"],
            Self::Crowdsec => &[
                "crowdsec-http-body",
                "crowdsec-http-no-body",
                "crowdsec-tcp",
            ],
        }
    }

    const fn response_messages(self) -> &'static [&'static str] {
        match self {
            Self::Coraza => &["coraza-res"],
            Self::Tollgate | Self::Crowdsec => &[],
        }
    }
}

/// Treatment of a request body of which HAProxy shows only a part, by an agent that looks at
/// bodies.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum PartialBodies {
    /// The request is denied with status 413.
    #[default]
    Deny,
    /// The agent judges the part that is shown.
    Judge,
}

/// Facts without which a message is denied, whatever the agent would say.
///
/// An agent cannot tell a request without headers from a message that does not say which ones it
/// has. An agent whose decision depends on them requires them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Needed {
    /// The headers of requests.
    RequestHeaders,
    /// The body of requests that have one.
    RequestBody,
    /// The headers of responses.
    ResponseHeaders,
    /// The body of responses, which HAProxy never shows: all responses are denied.
    ResponseBody,
}

/// The part of an exchange that a message is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Phase {
    Request,
    Response,
}

impl Default for SpopSettings {
    fn default() -> Self {
        Self {
            request_messages: vec!["tollgate-req".to_owned(), "tollgate-req-body".to_owned()],
            response_messages: vec!["tollgate-res".to_owned()],
            max_frame: DEFAULT_MAX_FRAME,
            partial_bodies: PartialBodies::default(),
            ignores_bodies: false,
            dialect: Dialect::default(),
            required: Vec::new(),
        }
    }
}

impl SpopSettings {
    /// Adds the name of a message about a request, beside `tollgate-req` and `tollgate-req-body`.
    #[must_use]
    pub fn request_message(mut self, name: impl Into<String>) -> Self {
        self.request_messages.push(name.into());
        self
    }

    /// Adds the name of a message about a response, beside `tollgate-res`.
    #[must_use]
    pub fn response_message(mut self, name: impl Into<String>) -> Self {
        self.response_messages.push(name.into());
        self
    }

    /// Sets the size limit of frames in bytes, 1 MiB by default. A connection with a larger frame
    /// is closed with status 3. It has to be above the `tune.bufsize` of HAProxy.
    #[must_use]
    pub fn max_frame(mut self, bytes: usize) -> Self {
        self.max_frame = bytes;
        self
    }

    /// Sets the treatment of bodies of which only a part is shown.
    #[must_use]
    pub fn partial_bodies(mut self, treatment: PartialBodies) -> Self {
        self.partial_bodies = treatment;
        self
    }

    /// Shows the agent no bodies, although it subscribes to them.
    #[must_use]
    pub fn ignore_bodies(mut self) -> Self {
        self.ignores_bodies = true;
        self
    }

    /// Understands another agent's names of messages, and sets its variables as well.
    #[must_use]
    pub fn dialect(mut self, dialect: Dialect) -> Self {
        self.dialect = dialect;
        for name in dialect.request_messages() {
            self = self.request_message(*name);
        }
        for name in dialect.response_messages() {
            self = self.response_message(*name);
        }
        self
    }

    /// Denies messages that lack a fact.
    #[must_use]
    pub fn require(mut self, needed: Needed) -> Self {
        self.required.push(needed);
        self
    }

    pub(crate) fn requires(&self, needed: Needed) -> bool {
        self.required.contains(&needed)
    }

    /// Returns what a message with this name is about.
    pub(crate) fn phase_of(&self, name: &[u8]) -> Option<Phase> {
        let is_name = |known: &String| known.as_bytes() == name;
        if self.request_messages.iter().any(is_name) {
            return Some(Phase::Request);
        }
        let is_response = self.response_messages.iter().any(is_name);
        is_response.then_some(Phase::Response)
    }
}

impl fmt::Display for Phase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Request => "request",
            Self::Response => "response",
        })
    }
}
