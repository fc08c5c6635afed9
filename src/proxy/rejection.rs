//! Reasons why a request is not forwarded, or its response is not.

use super::answer::{plain_answer, status_of};
use super::body::BodyError;
use super::coding::CodingError;
use super::head::BadRequest;
use super::header_ops::HeaderOpError;
use crate::error::CallError;
use crate::log::{NO_PEER, log_line};
use crate::metrics::RejectionKind;
use bytes::Bytes;
use http::{Response, StatusCode};
use std::sync::Arc;
use std::time::Duration;

/// Reason why a [`Transaction`](super::Transaction) ends before the client has the upstream's whole
/// response.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Rejection {
    /// An agent decided against the request. Holds the response for the client.
    #[error("agent '{agent}' denied the request")]
    Denied {
        /// Id of the agent.
        agent: Arc<str>,
        /// Response for the client, with the response headers that earlier agents asked for.
        response: Box<Response<Bytes>>,
    },
    /// A call to an agent that fails closed failed.
    #[error("a call to an agent failed: {0}")]
    Failed(#[from] CallError),
    /// The request is malformed.
    #[error(transparent)]
    BadRequest(#[from] BadRequest),
    /// The request goes on with the WebSocket protocol, which
    /// [`WebSocketMode`](super::WebSocketMode) forbids.
    #[error("WebSocket connections are not forwarded here")]
    WebSocket,
    /// The upstream goes on with a protocol that it was not asked for, so no agent would see what
    /// follows.
    #[error("the upstream switches to a protocol that it was not asked for")]
    Switched,
    /// Clients would understand the length of the response in different ways, or it has a transfer
    /// coding that agents cannot look into.
    #[error("the response has an ambiguous length or an unknown transfer coding")]
    ResponseFraming,
    /// An agent asked for a header change that is not permitted.
    #[error("an agent asked for a header change that is not permitted: {0}")]
    Headers(#[from] HeaderOpError),
    /// A request's body cannot be held, or a change of it cannot be applied.
    #[error("request body: {0}")]
    RequestBody(BodyError),
    /// The client has sent nothing of the request's body for
    /// [`request_body_timeout`](super::ChainConfig::request_body_timeout).
    #[error("request body: nothing arrived for {0:?}")]
    RequestBodyTimeout(Duration),
    /// A response's body cannot be held, or a change of it cannot be applied.
    #[error("response body: {0}")]
    ResponseBody(BodyError),
    /// A request's body has a coding that agents cannot look into.
    #[error("request body: {0}")]
    RequestCoding(CodingError),
    /// A response's body has a coding that agents cannot look into.
    #[error("response body: {0}")]
    ResponseCoding(CodingError),
    /// An agent with [`AgentRole::Decides`](super::AgentRole::Decides) asked to change a body.
    #[error("agent '{0}' may only decide, and asked for a change of a body")]
    NotAllowedToChange(Arc<str>),
    /// An agent asked for a change of headers that have been forwarded.
    #[error("agent '{0}' asked for a change of headers that have been forwarded")]
    TooLate(Arc<str>),
    /// The transaction was completed or cancelled before.
    #[error("the transaction is over")]
    Over,
    /// An agent that has seen everything did not decide.
    #[error("agent '{0}' asked for more of a body that is over")]
    Undecided(Arc<str>),
}

impl Rejection {
    /// Returns the status of the response for the client.
    ///
    /// * That of the agent's decision, see [`answer_of`](super::answer_of)
    /// * That of [`status_of`] for a failed call
    /// * 400 for a malformed request or body, 408 for a body that does not arrive
    /// * 413 for a body that cannot be held or decoded within the limits
    /// * 415 for a coding that agents cannot look into
    /// * 501 for a WebSocket connection that is not to be forwarded
    /// * 503 if the pool's memory limit leaves no room
    /// * 502 for everything that an agent or the upstream is to blame for
    pub fn status(&self) -> StatusCode {
        match self {
            Self::Denied { response, .. } => response.status(),
            Self::Failed(error) => status_of(error),
            Self::BadRequest(_) => StatusCode::BAD_REQUEST,
            Self::WebSocket => StatusCode::NOT_IMPLEMENTED,
            Self::RequestBodyTimeout(_) => StatusCode::REQUEST_TIMEOUT,
            Self::RequestBody(BodyError::TooLarge { .. }) => StatusCode::PAYLOAD_TOO_LARGE,
            Self::RequestBody(BodyError::OverMemory)
            | Self::ResponseBody(BodyError::OverMemory) => StatusCode::SERVICE_UNAVAILABLE,
            Self::RequestCoding(error) => coding_status(error),
            _ => StatusCode::BAD_GATEWAY,
        }
    }

    /// Returns what counts the rejection; `None` for a second one of the same transaction.
    pub(super) fn kind(&self) -> Option<RejectionKind> {
        Some(match self {
            Self::Over => return None,
            Self::Denied { .. } => RejectionKind::Denied,
            Self::Failed(_) => RejectionKind::AgentFailed,
            Self::BadRequest(reason) => match reason {
                BadRequest::Host => RejectionKind::InvalidHost,
                BadRequest::Framing | BadRequest::WebSocketBody => RejectionKind::AmbiguousFraming,
                BadRequest::Target | BadRequest::Connection => RejectionKind::InvalidHead,
                BadRequest::ForwardedFor => RejectionKind::InvalidClientAddress,
            },
            Self::WebSocket => RejectionKind::WebSocketRefused,
            Self::Switched | Self::ResponseFraming => RejectionKind::ResponseFraming,
            Self::RequestBodyTimeout(_) => RejectionKind::RequestTimedOut,
            Self::RequestBody(BodyError::TooLarge { .. })
            | Self::RequestCoding(CodingError::TooLarge) => RejectionKind::RequestTooLarge,
            Self::ResponseBody(BodyError::TooLarge { .. })
            | Self::ResponseCoding(CodingError::TooLarge) => RejectionKind::ResponseTooLarge,
            Self::RequestBody(BodyError::OverMemory)
            | Self::ResponseBody(BodyError::OverMemory) => RejectionKind::OverMemory,
            Self::RequestCoding(_) => RejectionKind::RequestCoding,
            Self::ResponseCoding(_) => RejectionKind::ResponseCoding,
            Self::Headers(_)
            | Self::RequestBody(_)
            | Self::ResponseBody(_)
            | Self::NotAllowedToChange(_)
            | Self::TooLate(_)
            | Self::Undecided(_) => RejectionKind::AgentFault,
        })
    }

    /// Logs the reason, unless an agent denied the request, and returns the client's response.
    pub fn into_response(self) -> Response<Bytes> {
        let status = self.status();
        let reason = match self {
            Self::Denied { response, .. } => return *response,
            reason => reason,
        };
        let status_text = status.as_str();
        // Clients cause these as they like: also the rest of a body, after the response has ended.
        let is_frequent = status.is_client_error() || status == StatusCode::NOT_IMPLEMENTED;
        if is_frequent || matches!(reason, Self::Over) {
            log_line!(debug, NO_PEER, { reason, status = status_text }, "a request was refused");
        } else {
            log_line!(warn, NO_PEER, { reason, status = status_text }, "a request was rejected");
        }
        plain_answer(status)
    }
}

fn coding_status(error: &CodingError) -> StatusCode {
    match error {
        CodingError::Unknown | CodingError::Multiple => StatusCode::UNSUPPORTED_MEDIA_TYPE,
        CodingError::TooLarge => StatusCode::PAYLOAD_TOO_LARGE,
        _ => StatusCode::BAD_REQUEST,
    }
}
