//! The log of rejected registrations.

use super::peer::Peer;
use super::rate_limit::TokenBucket;
use crate::clock;
use crate::error::RegistrationError;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

/// Lines per second.
const MAX_LINES_PER_SECOND: u32 = 10;

/// Characters of an id that are logged. The id is untrusted text.
const MAX_LOGGED_ID: usize = 64;

/// Counts rejected peers and logs the reasons, at a limited rate.
#[derive(Debug)]
pub(super) struct RejectionLog {
    bucket: Mutex<TokenBucket>,
    rejected: AtomicU64,
    suppressed: AtomicU64,
}

impl RejectionLog {
    pub(super) fn new() -> Self {
        Self {
            bucket: Mutex::new(TokenBucket::new(MAX_LINES_PER_SECOND, clock::now())),
            rejected: AtomicU64::new(0),
            suppressed: AtomicU64::new(0),
        }
    }

    /// Returns the number of peers that were rejected so far.
    pub(super) fn rejected(&self) -> u64 {
        self.rejected.load(Ordering::Relaxed)
    }

    pub(super) fn record(&self, peer: &Peer, agent_id: Option<&str>, reason: &RegistrationError) {
        self.rejected.fetch_add(1, Ordering::Relaxed);
        let mut bucket = self.bucket.lock().unwrap_or_else(PoisonError::into_inner);
        if !bucket.try_take(clock::now()) {
            self.suppressed.fetch_add(1, Ordering::Relaxed);
            return;
        }
        drop(bucket);
        let suppressed = self.suppressed.swap(0, Ordering::Relaxed);
        let agent: String = agent_id
            .unwrap_or_default()
            .chars()
            .take(MAX_LOGGED_ID)
            .collect();
        tracing::warn!(%peer, ?agent, suppressed, "rejected an agent: {reason}");
    }
}
