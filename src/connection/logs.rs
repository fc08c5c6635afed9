use crate::protocol::{LogLevel, LogMessage};
use std::fmt::{self, Write};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

/// Characters of a message, and of its fields, that are logged.
const MAX_LOGGED: usize = 4096;

/// Writes what agents log to the proxy's log, as much as the limit lets through.
#[derive(Debug)]
pub(crate) struct AgentLog {
    /// Lines per second, and lines at once after a time of silence.
    limit: u32,
    allowance: Mutex<Allowance>,
    pub(crate) logged: AtomicU64,
    pub(crate) left_out: AtomicU64,
}

#[derive(Debug)]
struct Allowance {
    lines: f64,
    counted_at: Instant,
    /// Lines left out since the last one that was not.
    left_out: u64,
}

impl AgentLog {
    pub(super) fn new(limit: u32) -> Self {
        Self {
            limit,
            allowance: Mutex::new(Allowance {
                lines: f64::from(limit),
                counted_at: Instant::now(),
                left_out: 0,
            }),
            logged: AtomicU64::new(0),
            left_out: AtomicU64::new(0),
        }
    }

    /// Returns whether the line was logged.
    pub(super) fn write(&self, agent: &str, message: &LogMessage) -> bool {
        let Some(left_out) = self.admit() else {
            self.left_out.fetch_add(1, Ordering::Relaxed);
            return false;
        };
        self.logged.fetch_add(1, Ordering::Relaxed);
        if left_out > 0 {
            tracing::warn!(
                agent,
                left_out,
                "an agent logs too much; lines were left out"
            );
        }
        write(agent, message);
        true
    }

    /// Takes one line off the allowance; says how many were left out before it.
    fn admit(&self) -> Option<u64> {
        let limit = f64::from(self.limit);
        // A panic cannot happen while the lock is held.
        let mut allowance = self
            .allowance
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        let since = now.saturating_duration_since(allowance.counted_at);
        allowance.lines = (allowance.lines + since.as_secs_f64() * limit).min(limit);
        allowance.counted_at = now;
        if allowance.lines < 1.0 {
            allowance.left_out += 1;
            return None;
        }
        allowance.lines -= 1.0;
        Some(std::mem::take(&mut allowance.left_out))
    }
}

fn write(agent: &str, message: &LogMessage) {
    let correlation_id = message.correlation_id.as_deref().map(Harmless);
    let correlation_id = correlation_id.as_ref().map(tracing::field::display);
    let fields = serde_json::to_string(&message.fields).unwrap_or_default();
    let fields = (!message.fields.is_empty()).then(|| tracing::field::display(Harmless(&fields)));
    let text = Harmless(&message.message);
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

/// Text from outside that makes no lines, colours or floods of its own in a log.
struct Harmless<'a>(&'a str);

impl fmt::Display for Harmless<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut chars = self.0.chars();
        for char in chars.by_ref().take(MAX_LOGGED) {
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
