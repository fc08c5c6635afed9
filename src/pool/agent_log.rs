//! Log messages of agents, written to the proxy's log within a rate limit.

use crate::clock;
use crate::protocol::{LogLevel, LogMessage};
use std::fmt::{self, Write};
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

/// Maximum number of characters logged of a message, and of its fields.
const MAX_LOGGED_CHARS: usize = 4096;

/// Writes the log messages of one agent to the proxy's log, up to a rate limit.
#[derive(Debug)]
pub(super) struct AgentLog {
    /// Maximum number of lines per second, and size of a burst.
    limit: AtomicU32,
    allowance: Mutex<Allowance>,
    pub(super) logged: AtomicU64,
    pub(super) dropped: AtomicU64,
}

/// Token bucket: one token per line.
#[derive(Debug)]
struct Allowance {
    lines: f64,
    updated_at: Instant,
    /// Number of lines dropped since the last one that was logged.
    dropped: u64,
}

impl AgentLog {
    pub(super) fn new(limit: u32) -> Self {
        Self {
            limit: AtomicU32::new(limit),
            allowance: Mutex::new(Allowance {
                lines: f64::from(limit),
                updated_at: clock::now(),
                dropped: 0,
            }),
            logged: AtomicU64::new(0),
            dropped: AtomicU64::new(0),
        }
    }

    /// Changes the limit.
    pub(super) fn set_limit(&self, limit: u32) {
        self.limit.store(limit, Ordering::Relaxed);
    }

    /// Logs a message unless the limit is exceeded. Returns whether it was logged.
    pub(super) fn write(&self, agent: &str, message: &LogMessage) -> bool {
        let Some(dropped) = self.try_take_line() else {
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

    /// Takes one line off the allowance. Returns the number of lines dropped before it, or `None`
    /// if this line exceeds the limit.
    fn try_take_line(&self) -> Option<u64> {
        let limit = f64::from(self.limit.load(Ordering::Relaxed));
        // No code under the lock can panic.
        let mut allowance = self
            .allowance
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let now = clock::now();
        let since = now.saturating_duration_since(allowance.updated_at);
        allowance.lines = (allowance.lines + since.as_secs_f64() * limit).min(limit);
        allowance.updated_at = now;
        if allowance.lines < 1.0 {
            allowance.dropped += 1;
            return None;
        }
        allowance.lines -= 1.0;
        Some(std::mem::take(&mut allowance.dropped))
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
