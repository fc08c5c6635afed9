//! Errors of endpoints.

/// Error of an endpoint that is malformed, or of a kind that this build does not support.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("invalid endpoint '{endpoint}': {reason}")]
pub struct InvalidEndpoint {
    endpoint: String,
    reason: &'static str,
}

impl InvalidEndpoint {
    pub(crate) fn new(endpoint: impl Into<String>, reason: &'static str) -> Self {
        Self {
            endpoint: endpoint.into(),
            reason,
        }
    }

    /// Returns the endpoint as given.
    pub fn endpoint(&self) -> &str {
        &self.endpoint
    }

    /// Returns the fault in the endpoint.
    pub fn reason(&self) -> &'static str {
        self.reason
    }
}
