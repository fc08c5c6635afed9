use super::pace::Bucket;
use super::peer::Peer;
use crate::error::RegistrationError;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

/// Says why peers were turned away, but not more often than somebody could read.
#[derive(Debug)]
pub(super) struct RefusalLog {
    budget: Mutex<Bucket>,
    refused: AtomicU64,
    unsaid: AtomicU64,
}

/// Lines per second.
const MAX_LINES: u32 = 10;

/// What is shown of an id that anybody may have made up.
const MAX_SHOWN_ID: usize = 64;

impl RefusalLog {
    pub(super) fn new() -> Self {
        Self {
            budget: Mutex::new(Bucket::new(MAX_LINES, Instant::now())),
            refused: AtomicU64::new(0),
            unsaid: AtomicU64::new(0),
        }
    }

    /// How many were turned away so far.
    pub(super) fn refused(&self) -> u64 {
        self.refused.load(Ordering::Relaxed)
    }

    pub(super) fn note(&self, peer: &Peer, agent_id: Option<&str>, reason: &RegistrationError) {
        self.refused.fetch_add(1, Ordering::Relaxed);
        let mut budget = self.budget.lock().unwrap_or_else(PoisonError::into_inner);
        if !budget.take(Instant::now()) {
            self.unsaid.fetch_add(1, Ordering::Relaxed);
            return;
        }
        drop(budget);
        let unsaid = self.unsaid.swap(0, Ordering::Relaxed);
        let agent: String = agent_id
            .unwrap_or_default()
            .chars()
            .take(MAX_SHOWN_ID)
            .collect();
        tracing::warn!(%peer, ?agent, unsaid, "an agent was turned away: {reason}");
    }
}
