//! The log of rejected registrations.

use super::peer::Peer;
use crate::error::RegistrationError;
use crate::pool::token_bucket::LineLimit;
use std::sync::atomic::{AtomicU64, Ordering};

/// Lines per second.
const MAX_LINES_PER_SECOND: u32 = 10;

/// Characters of an id that are logged. The id is untrusted text.
const MAX_LOGGED_ID: usize = 64;

/// Counts rejected peers and logs the reasons, at a limited rate.
#[derive(Debug)]
pub(super) struct RejectionLog {
    limit: LineLimit,
    rejected: AtomicU64,
}

impl RejectionLog {
    pub(super) fn new() -> Self {
        Self {
            limit: LineLimit::new(MAX_LINES_PER_SECOND),
            rejected: AtomicU64::new(0),
        }
    }

    /// Returns the number of peers that were rejected so far.
    pub(super) fn rejected(&self) -> u64 {
        self.rejected.load(Ordering::Relaxed)
    }

    pub(super) fn record(&self, peer: &Peer, agent_id: Option<&str>, reason: &RegistrationError) {
        self.rejected.fetch_add(1, Ordering::Relaxed);
        let Some(suppressed) = self.limit.try_take() else {
            return;
        };
        let agent = agent_id.unwrap_or_default().chars();
        let agent: String = agent.take(MAX_LOGGED_ID).collect();
        tracing::warn!(%peer, ?agent, suppressed, "rejected an agent: {reason}");
    }
}
