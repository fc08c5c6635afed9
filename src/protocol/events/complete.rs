//! The event at the end of a request.

use serde::{Deserialize, Serialize};

/// The end of an HTTP request, owned.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RequestCompleteEvent {
    /// Id that joins all events of one HTTP request.
    pub correlation_id: String,
    /// HTTP status of the response to the client.
    pub status: u16,
    /// Time from the first to the last byte, in milliseconds.
    pub duration_ms: u64,
    /// Size of the request body in bytes.
    pub request_body_size: usize,
    /// Size of the response body in bytes.
    pub response_body_size: usize,
    /// Number of upstreams that were tried.
    pub upstream_attempts: u32,
    /// Error that the request ended with, if any.
    #[serde(default)]
    pub error: Option<String>,
}

impl RequestCompleteEvent {
    /// Returns the borrowed form of this event.
    pub fn borrowed(&self) -> RequestComplete<'_> {
        RequestComplete {
            correlation_id: &self.correlation_id,
            status: self.status,
            duration_ms: self.duration_ms,
            request_body_size: self.request_body_size,
            response_body_size: self.response_body_size,
            upstream_attempts: self.upstream_attempts,
            error: self.error.as_deref(),
        }
    }
}

/// The end of an HTTP request, borrowed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RequestComplete<'a> {
    /// Id that joins all events of one HTTP request.
    pub correlation_id: &'a str,
    /// HTTP status of the response to the client.
    pub status: u16,
    /// Time from the first to the last byte, in milliseconds.
    pub duration_ms: u64,
    /// Size of the request body in bytes.
    pub request_body_size: usize,
    /// Size of the response body in bytes.
    pub response_body_size: usize,
    /// Number of upstreams that were tried.
    pub upstream_attempts: u32,
    /// Error that the request ended with, if any.
    pub error: Option<&'a str>,
}

impl RequestComplete<'_> {
    /// Copies this event to its owned form.
    pub fn to_event(&self) -> RequestCompleteEvent {
        RequestCompleteEvent {
            correlation_id: self.correlation_id.to_owned(),
            status: self.status,
            duration_ms: self.duration_ms,
            request_body_size: self.request_body_size,
            response_body_size: self.response_body_size,
            upstream_attempts: self.upstream_attempts,
            error: self.error.map(str::to_owned),
        }
    }
}
