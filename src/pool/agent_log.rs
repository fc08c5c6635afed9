//! Log messages of agents, written to the proxy's log within a rate limit.

use super::token_bucket::LineLimit;
use crate::protocol::{LogLevel, LogMessage};
use std::fmt::{self, Write};
use std::sync::atomic::{AtomicU64, Ordering};

/// Maximum number of characters logged of a message, and of its fields.
const MAX_LOGGED_CHARS: usize = 4096;

/// Writes the log messages of one agent to the proxy's log, up to a rate limit.
#[derive(Debug)]
pub(super) struct AgentLog {
    pub(super) limit: LineLimit,
    pub(super) logged: AtomicU64,
    pub(super) dropped: AtomicU64,
}

impl AgentLog {
    pub(super) fn new(lines_per_second: u32) -> Self {
        Self {
            limit: LineLimit::new(lines_per_second),
            logged: AtomicU64::new(0),
            dropped: AtomicU64::new(0),
        }
    }

    /// Logs a message unless the limit is exceeded. Returns whether it was logged.
    pub(super) fn write(&self, agent: &str, message: &LogMessage) -> bool {
        let Some(dropped) = self.limit.try_take() else {
            self.dropped.fetch_add(1, Ordering::Relaxed);
            return false;
        };
        self.logged.fetch_add(1, Ordering::Relaxed);
        if dropped > 0 {
            tracing::warn!(
                agent,
                left_out = dropped,
                "an agent logs too much; lines were left out"
            );
        }
        write(agent, message);
        true
    }
}

fn write(agent: &str, message: &LogMessage) {
    let correlation_id = message.correlation_id.as_deref().map(Sanitized);
    let correlation_id = correlation_id.as_ref().map(tracing::field::display);
    let fields = serde_json::to_string(&message.fields).unwrap_or_default();
    let fields = (!message.fields.is_empty()).then(|| tracing::field::display(Sanitized(&fields)));
    let text = Sanitized(&message.message);
    macro_rules! log {
        ($level:ident) => {
            tracing::$level!(target: "tollgate::agent_log", agent, correlation_id, fields, "{text}")
        };
    }
    match message.level {
        LogLevel::Debug => log!(debug),
        LogLevel::Info => log!(info),
        LogLevel::Warn => log!(warn),
        LogLevel::Error => log!(error),
    }
}

/// Untrusted text, printed with control characters escaped and its length limited.
struct Sanitized<'a>(&'a str);

impl fmt::Display for Sanitized<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut chars = self.0.chars();
        for char in chars.by_ref().take(MAX_LOGGED_CHARS) {
            if char.is_control() {
                write!(f, "{}", char.escape_default())?;
            } else {
                f.write_char(char)?;
            }
        }
        if chars.next().is_some() {
            f.write_char('\u{2026}')?;
        }
        Ok(())
    }
}
