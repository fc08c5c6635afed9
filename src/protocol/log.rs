//! Log messages that agents send to the proxy.

use super::now_ms;
use crate::configuration::setters;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// Message of an agent for the proxy's log.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LogMessage {
    /// Severity.
    pub level: LogLevel,
    /// Text of the message.
    pub message: String,
    /// Correlation id of the exchange that it concerns, if any.
    #[serde(default)]
    pub correlation_id: Option<String>,
    /// Structured fields.
    #[serde(default)]
    pub fields: Map<String, Value>,
    /// Time of the message, in milliseconds since the Unix epoch.
    #[serde(default)]
    pub timestamp_ms: u64,
}

impl LogMessage {
    /// Creates a message without fields, with the current time.
    pub fn new(level: LogLevel, message: impl Into<String>) -> Self {
        Self {
            level,
            message: message.into(),
            correlation_id: None,
            fields: Map::new(),
            timestamp_ms: now_ms(),
        }
    }

    setters! {
        /// Sets the exchange that the message concerns.
        about(self, correlation_id: impl Into<String>) =>
            self.correlation_id = Some(correlation_id.into());

        /// Adds a field. A field of the same name is replaced.
        with_field(self, name: impl Into<String>, value: impl Into<Value>) =>
            self.fields.insert(name.into(), value.into());
    }
}

/// Severity of a [`LogMessage`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogLevel {
    /// Detail for debugging.
    Debug,
    /// Normal operation.
    Info,
    /// Unexpected, but the agent continues to work.
    Warn,
    /// A failure.
    Error,
}
