//! Counts what an attacker has sent.

use serde::{Deserialize, Serialize};
use std::sync::atomic::{AtomicU64, Ordering};

static CONNECTIONS: AtomicU64 = AtomicU64::new(0);
static MESSAGES: AtomicU64 = AtomicU64::new(0);
static BYTES: AtomicU64 = AtomicU64::new(0);

#[derive(Debug, Default, Clone, Copy, Serialize, Deserialize)]
pub(crate) struct Tally {
    pub(crate) connections: u64,
    /// Number of messages, the last ones of which may be incomplete.
    pub(crate) messages: u64,
    pub(crate) bytes: u64,
}

pub(crate) fn count_connection() {
    CONNECTIONS.fetch_add(1, Ordering::Relaxed);
}

pub(crate) fn count_sent(messages: usize, bytes: usize) {
    MESSAGES.fetch_add(messages as u64, Ordering::Relaxed);
    BYTES.fetch_add(bytes as u64, Ordering::Relaxed);
}

impl Tally {
    /// Returns the counts of this process.
    pub(crate) fn of_this_process() -> Self {
        let read = |count: &AtomicU64| count.load(Ordering::Relaxed);
        Self {
            connections: read(&CONNECTIONS),
            messages: read(&MESSAGES),
            bytes: read(&BYTES),
        }
    }
}
