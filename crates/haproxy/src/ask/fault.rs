//! Reasons to deny that are not the agent's.

use crate::wire::Malformed;
use tollgate::response::AuditMetadata;
use tollgate::{AgentResponse, listener::NotAsked};

/// Reason to deny a request or response that the agent has not decided against.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    /// The payload is not SPOP.
    Malformed,
    /// The question has no message, or one with a name that was not set.
    UnknownMessage,
    /// An argument has a type or value that it cannot have, or comes twice.
    InvalidArgument,
    /// A message lacks an argument that is needed.
    MissingArgument,
    /// A part of the body is all that is shown.
    PartialBody,
    /// The agent changes a body.
    BodyChange,
    /// The agent wants more of a body than there is to show.
    NeedsMore,
    /// The agent changes a header that it may not change, or to a value that is not valid.
    HeaderChange,
    /// The response has a body that a rule needs.
    ResponseBody,
    /// The event does not fit the agent protocol.
    NotAsked,
    /// The agent panicked.
    Panicked,
    /// The answer does not fit into a frame.
    LargeAnswer,
}

impl Fault {
    /// Returns the reason code.
    pub(crate) const fn code(self) -> &'static str {
        match self {
            Self::Malformed => "malformed_message",
            Self::UnknownMessage => "unknown_message",
            Self::InvalidArgument => "invalid_argument",
            Self::MissingArgument => "missing_argument",
            Self::PartialBody => "partial_body",
            Self::BodyChange => "body_change_impossible",
            Self::NeedsMore => "needs_more_impossible",
            Self::HeaderChange => "invalid_header_change",
            Self::ResponseBody => "response_body_not_shown",
            Self::NotAsked => "invalid_event",
            Self::Panicked => "agent_panicked",
            Self::LargeAnswer => "answer_too_large",
        }
    }

    /// Returns the status of the denial.
    pub(crate) const fn status(self) -> u16 {
        match self {
            Self::PartialBody => 413,
            _ => 500,
        }
    }

    /// Returns the denial.
    #[cold]
    pub(crate) fn to_answer(self) -> AgentResponse {
        AgentResponse::block(self.status(), None).with_audit(AuditMetadata {
            reason_codes: vec![self.code().to_owned()],
            ..AuditMetadata::default()
        })
    }
}

impl From<Malformed> for Fault {
    fn from(_: Malformed) -> Self {
        Self::Malformed
    }
}

impl From<NotAsked> for Fault {
    fn from(_: NotAsked) -> Self {
        Self::NotAsked
    }
}
