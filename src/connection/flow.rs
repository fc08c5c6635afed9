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
mod tests {
    use super::*;
    use FlowControlAction::{Pause, Resume, UpdateCapacity};

    fn apply(flow: &FlowState, keys: &IdHasher, id: Option<&str>, action: FlowControlAction) {
        let mut message = FlowControl::for_all(action);
        message.correlation_id = id.map(str::to_owned);
        flow.apply(&message, keys);
    }

    #[test]
    fn a_pause_lasts_until_the_agent_resumes() {
        let (flow, keys) = (FlowState::new(), IdHasher::default());
        let capacity = |buffer_available| UpdateCapacity { buffer_available };
        for (action, is_paused) in [
            (Pause, true),
            (Resume, false),
            (capacity(0), true),
            (capacity(1), false),
        ] {
            apply(&flow, &keys, None, action);
            assert_eq!(flow.is_paused(), is_paused, "{action:?}");
            assert_eq!(flow.check(keys.key("a")).is_err(), is_paused);
        }
    }

    #[test]
    fn one_exchange_can_be_paused() {
        let (flow, keys) = (FlowState::new(), IdHasher::default());
        apply(&flow, &keys, Some("a"), Pause);
        assert!(flow.check(keys.key("a")).is_err() && flow.check(keys.key("b")).is_ok());
        apply(&flow, &keys, Some("a"), Resume);
        assert!(flow.check(keys.key("a")).is_ok());
    }

    #[test]
    fn too_many_paused_exchanges_pause_the_connection() {
        let (flow, keys) = (FlowState::new(), IdHasher::default());
        for (action, is_paused) in [(Pause, true), (Resume, false)] {
            for n in 0..=MAX_PAUSED_EXCHANGES {
                apply(&flow, &keys, Some(&n.to_string()), action);
            }
            assert_eq!(flow.is_paused(), is_paused);
        }
    }

    #[test]
    fn a_pause_of_too_many_exchanges_ends_as_theirs_do() {
        for (lifetime, is_paused) in [(Duration::MAX, true), (Duration::ZERO, false)] {
            let (flow, keys) = (FlowState::with_limits(0, lifetime), IdHasher::default());
            apply(&flow, &keys, Some("one too many"), Pause);
            assert_eq!(flow.is_paused(), is_paused);
        }
    }
}
