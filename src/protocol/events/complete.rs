use serde::{Deserialize, Serialize};

/// A request is over.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RequestCompleteEvent {
    /// Joins all events of one HTTP request.
    pub correlation_id: String,
    /// HTTP status that the client got.
    pub status: u16,
    /// Time from first to last byte, in milliseconds.
    pub duration_ms: u64,
    /// Size of the request's body in bytes.
    pub request_body_size: usize,
    /// Size of the response's body in bytes.
    pub response_body_size: usize,
    /// How many upstreams were tried.
    pub upstream_attempts: u32,
    /// What went wrong.
    #[serde(default)]
    pub error: Option<String>,
}

impl RequestCompleteEvent {
    /// The same event, borrowed.
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

/// A request is over, borrowed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RequestComplete<'a> {
    /// Joins all events of one HTTP request.
    pub correlation_id: &'a str,
    /// HTTP status that the client got.
    pub status: u16,
    /// Time from first to last byte, in milliseconds.
    pub duration_ms: u64,
    /// Size of the request's body in bytes.
    pub request_body_size: usize,
    /// Size of the response's body in bytes.
    pub response_body_size: usize,
    /// How many upstreams were tried.
    pub upstream_attempts: u32,
    /// What went wrong.
    pub error: Option<&'a str>,
}

impl RequestComplete<'_> {
    /// A copy that borrows nothing.
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
