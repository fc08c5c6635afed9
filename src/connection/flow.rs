//! Flow control: pauses that the agent has requested on one connection.

use super::call_end::CallEnd;
use super::expiring_keys::{ExpiringKeySet, IdHasher};
use crate::protocol::{FlowControl, FlowControlAction};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// Pauses requested by the agent on one connection.
#[derive(Debug)]
pub(crate) struct FlowState {
    is_all_paused: AtomicBool,
    /// Exchanges that are paused one by one.
    paused_exchanges: ExpiringKeySet,
    /// Holds a key if more exchanges were paused than `paused_exchanges` holds. Then the whole
    /// connection is paused.
    overflow: ExpiringKeySet,
}

/// Maximum number of exchanges paused one by one; one more pauses the whole connection.
const MAX_PAUSED_EXCHANGES: usize = 1024;

/// Time after which the pause of one exchange ends, if the agent does not resume it.
const PAUSE_LIFETIME: Duration = Duration::from_secs(5 * 60);

/// The only key of [`FlowState::overflow`].
const OVERFLOW: u64 = 0;

impl FlowState {
    pub(crate) fn new() -> Self {
        Self::with_limits(MAX_PAUSED_EXCHANGES, PAUSE_LIFETIME)
    }

    fn with_limits(max_paused: usize, lifetime: Duration) -> Self {
        Self {
            is_all_paused: AtomicBool::new(false),
            paused_exchanges: ExpiringKeySet::new(max_paused, lifetime),
            overflow: ExpiringKeySet::new(1, lifetime),
        }
    }

    /// Returns whether the whole connection is paused.
    pub(crate) fn is_paused(&self) -> bool {
        self.is_all_paused.load(Ordering::Acquire) || self.overflow.contains(OVERFLOW)
    }

    /// Checks that an event of this exchange may be sent.
    pub(crate) fn check(&self, key: u64) -> Result<(), CallEnd> {
        if self.is_paused() {
            Err(CallEnd::Paused)
        } else if self.paused_exchanges.contains(key) {
            Err(CallEnd::ExchangePaused)
        } else {
            Ok(())
        }
    }

    /// Applies a flow control message. Returns `true` if it was a pause.
    pub(crate) fn apply(&self, message: &FlowControl, keys: &IdHasher) -> bool {
        let pause = match message.action {
            FlowControlAction::Pause => true,
            FlowControlAction::Resume => false,
            FlowControlAction::UpdateCapacity { buffer_available } => buffer_available == 0,
        };
        match &message.correlation_id {
            None => self.apply_to_all(pause),
            Some(id) => self.apply_to_one(keys.key(id), pause),
        }
        pause
    }

    fn apply_to_all(&self, pause: bool) {
        if !pause {
            self.paused_exchanges.clear();
            self.overflow.clear();
        }
        self.is_all_paused.store(pause, Ordering::Release);
    }

    fn apply_to_one(&self, key: u64, pause: bool) {
        if !pause {
            self.paused_exchanges.remove(key);
            if self.paused_exchanges.is_empty() {
                self.overflow.clear();
            }
        } else if self.paused_exchanges.insert(key).is_err() {
            self.overflow.insert_over_oldest(OVERFLOW);
        }
    }
}

#[cfg(all(test, not(tollgate_loom)))]
#[path = "../../tests/unit/connection/flow.rs"]
mod tests;
