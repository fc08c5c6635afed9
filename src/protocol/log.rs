use super::now_ms;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// A line for the proxy's log.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LogMessage {
    /// How bad it is.
    pub level: LogLevel,
    /// The line.
    pub message: String,
    /// The exchange it is about, if it is about one.
    #[serde(default)]
    pub correlation_id: Option<String>,
    /// What else belongs to it.
    #[serde(default)]
    pub fields: Map<String, Value>,
    /// When, milliseconds since the Unix epoch.
    #[serde(default)]
    pub timestamp_ms: u64,
}

impl LogMessage {
    /// A line, written now.
    pub fn new(level: LogLevel, message: impl Into<String>) -> Self {
        Self {
            level,
            message: message.into(),
            correlation_id: None,
            fields: Map::new(),
            timestamp_ms: now_ms(),
        }
    }

    /// The same about an exchange.
    #[must_use]
    pub fn about(mut self, correlation_id: impl Into<String>) -> Self {
        self.correlation_id = Some(correlation_id.into());
        self
    }

    /// The same with a field.
    #[must_use]
    pub fn with_field(mut self, name: impl Into<String>, value: impl Into<Value>) -> Self {
        self.fields.insert(name.into(), value.into());
        self
    }
}

/// How bad something is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogLevel {
    /// For whoever looks for a fault.
    Debug,
    /// Worth knowing.
    Info,
    /// Should be looked at.
    Warn,
    /// Something does not work.
    Error,
}
