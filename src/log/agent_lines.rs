//! Lines that agents write to the proxy's log, within a rate limit of their own.

use super::text::{MAX_MESSAGE, cut, field, message};
use crate::clock;
use crate::lock::lock;
use crate::protocol::{LogLevel, LogMessage};
use crate::token_bucket::{Rate, TokenBucket};
use std::io;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

/// Maximum length of the fields of a line, in bytes.
const MAX_FIELDS: usize = 512;

/// Writes the lines of one agent to the proxy's log, up to a rate limit.
#[derive(Debug)]
pub(crate) struct AgentLog {
    /// Maximum number of lines per second, and size of a burst.
    limit: AtomicU32,
    allowance: Mutex<Allowance>,
    pub(crate) logged: AtomicU64,
    pub(crate) dropped: AtomicU64,
}

#[derive(Debug)]
struct Allowance {
    bucket: TokenBucket,
    /// Number of lines dropped since the last one that was logged.
    dropped: u64,
}

impl AgentLog {
    pub(crate) fn new(limit: u32) -> Self {
        Self {
            limit: AtomicU32::new(limit),
            allowance: Mutex::new(Allowance {
                bucket: TokenBucket::new(Rate::per_second(limit), clock::now()),
                dropped: 0,
            }),
            logged: AtomicU64::new(0),
            dropped: AtomicU64::new(0),
        }
    }

    /// Changes the limit.
    pub(crate) fn set_limit(&self, limit: u32) {
        self.limit.store(limit, Ordering::Relaxed);
    }

    /// Logs a line unless the limit is exceeded. Returns whether it was logged.
    pub(crate) fn write(&self, agent: &str, line: &LogMessage) -> bool {
        let Some(left_out) = self.try_take_line() else {
            self.dropped.fetch_add(1, Ordering::Relaxed);
            return false;
        };
        self.logged.fetch_add(1, Ordering::Relaxed);
        if left_out > 0 {
            tracing::warn!(
                target: "tollgate::agent_log",
                agent,
                left_out,
                "an agent logs too much; lines were left out"
            );
        }
        write(agent, line);
        true
    }

    /// Takes one line off the allowance. Returns the number of lines dropped before it, or `None`
    /// if this line exceeds the limit.
    fn try_take_line(&self) -> Option<u64> {
        let rate = Rate::per_second(self.limit.load(Ordering::Relaxed));
        let mut allowance = lock(&self.allowance);
        if !allowance.bucket.try_take(rate, clock::now()) {
            allowance.dropped += 1;
            return None;
        }
        Some(std::mem::take(&mut allowance.dropped))
    }
}

fn write(agent: &str, line: &LogMessage) {
    let correlation_id = line.correlation_id.as_ref().map(|id| field(id));
    let correlation_id = correlation_id.as_ref().map(tracing::field::display);
    let fields = (!line.fields.is_empty()).then(|| fields_of(line));
    let fields = fields.as_ref().map(tracing::field::display);
    let text = message(&line.message);
    macro_rules! log {
        ($level:ident) => {
            tracing::$level!(target: "tollgate::agent_log", agent, correlation_id, fields, "{text}")
        };
    }
    match line.level {
        LogLevel::Debug => log!(debug),
        LogLevel::Info => log!(info),
        LogLevel::Warn => log!(warn),
        LogLevel::Error => log!(error),
    }
}

/// Returns the beginning of the fields as JSON.
fn fields_of(line: &LogMessage) -> String {
    let mut beginning = Beginning(Vec::new());
    // Fails where it is cut.
    let _ = serde_json::to_writer(&mut beginning, &line.fields);
    cut(String::from_utf8_lossy(&beginning.0), MAX_FIELDS)
}

/// Takes bytes until there are more than a line has room for, and fails then.
struct Beginning(Vec<u8>);

impl io::Write for Beginning {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let room = MAX_MESSAGE.saturating_sub(self.0.len());
        let taken = bytes.len().min(room);
        self.0.extend_from_slice(&bytes[..taken]);
        Ok(taken)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
