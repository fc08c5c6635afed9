//! The two messages of a transaction.

use super::body::BodyError;
use super::coding::CodingError;
use super::rejection::Rejection;
use crate::protocol::EventType;

/// One of the two messages of a transaction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Message {
    /// The client's request.
    Request,
    /// The upstream's response.
    Response,
}

impl Message {
    pub(super) const fn event_type(self) -> EventType {
        match self {
            Self::Request => EventType::RequestBodyChunk,
            Self::Response => EventType::ResponseBodyChunk,
        }
    }

    pub(super) fn body_error(self, error: BodyError) -> Rejection {
        match self {
            Self::Request => Rejection::RequestBody(error),
            Self::Response => Rejection::ResponseBody(error),
        }
    }

    pub(super) fn coding_error(self, error: CodingError) -> Rejection {
        match self {
            Self::Request => Rejection::RequestCoding(error),
            Self::Response => Rejection::ResponseCoding(error),
        }
    }
}
