use super::keys::{KeySet, Keys};
use super::refusal::Refusal;
use crate::protocol::{FlowControl, FlowControlAction};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// What an agent asked of the flow on one connection.
#[derive(Debug)]
pub(crate) struct FlowState {
    paused: AtomicBool,
    paused_exchanges: KeySet,
    /// Whether more exchanges are paused than are told apart, so that all are.
    overfull: AtomicBool,
}

/// More exchanges than this are not paused one by one; the whole connection is.
const MAX_PAUSED_EXCHANGES: usize = 1024;

/// A paused exchange that is never resumed is over after this time.
const PAUSE_LIFETIME: Duration = Duration::from_secs(5 * 60);

impl FlowState {
    pub(crate) fn new() -> Self {
        Self {
            paused: AtomicBool::new(false),
            paused_exchanges: KeySet::new(MAX_PAUSED_EXCHANGES, PAUSE_LIFETIME),
            overfull: AtomicBool::new(false),
        }
    }

    /// Whether nothing may be sent at all.
    pub(crate) fn is_paused(&self) -> bool {
        self.paused.load(Ordering::Acquire) || self.overfull.load(Ordering::Acquire)
    }

    /// Whether an event of this exchange may be sent.
    pub(crate) fn check(&self, key: u64) -> Result<(), Refusal> {
        if self.is_paused() {
            Err(Refusal::Paused)
        } else if self.paused_exchanges.contains(key) {
            Err(Refusal::ExchangePaused)
        } else {
            Ok(())
        }
    }

    /// Does as the agent asks. Says whether that is a pause.
    pub(crate) fn apply(&self, message: &FlowControl, keys: &Keys) -> bool {
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
            self.overfull.store(false, Ordering::Release);
        }
        self.paused.store(pause, Ordering::Release);
    }

    fn apply_to_one(&self, key: u64, pause: bool) {
        if !pause {
            self.paused_exchanges.remove(key);
            if self.paused_exchanges.is_empty() {
                self.overfull.store(false, Ordering::Release);
            }
        } else if self.paused_exchanges.insert(key).is_err() {
            self.overfull.store(true, Ordering::Release);
        }
    }
}

#[cfg(all(test, not(tollgate_loom)))]
mod tests {
    use super::*;

    fn apply(flow: &FlowState, keys: &Keys, id: Option<&str>, action: FlowControlAction) {
        let message = FlowControl {
            correlation_id: id.map(str::to_owned),
            action,
            timestamp_ms: 0,
        };
        flow.apply(&message, keys);
    }

    #[test]
    fn a_pause_holds_until_the_agent_resumes() {
        let (flow, keys) = (FlowState::new(), Keys::default());
        apply(&flow, &keys, None, FlowControlAction::Pause);
        assert!(flow.is_paused() && flow.check(keys.key("a")).is_err());
        apply(&flow, &keys, None, FlowControlAction::Resume);
        assert!(flow.check(keys.key("a")).is_ok());
        apply(
            &flow,
            &keys,
            None,
            FlowControlAction::UpdateCapacity {
                buffer_available: 0,
            },
        );
        assert!(flow.is_paused());
        apply(
            &flow,
            &keys,
            None,
            FlowControlAction::UpdateCapacity {
                buffer_available: 1,
            },
        );
        assert!(!flow.is_paused());
    }

    #[test]
    fn one_exchange_is_paused_alone() {
        let (flow, keys) = (FlowState::new(), Keys::default());
        apply(&flow, &keys, Some("a"), FlowControlAction::Pause);
        assert!(flow.check(keys.key("a")).is_err() && flow.check(keys.key("b")).is_ok());
        apply(&flow, &keys, Some("a"), FlowControlAction::Resume);
        assert!(flow.check(keys.key("a")).is_ok());
    }

    #[test]
    fn too_many_paused_exchanges_pause_the_connection() {
        let (flow, keys) = (FlowState::new(), Keys::default());
        for n in 0..=MAX_PAUSED_EXCHANGES {
            apply(&flow, &keys, Some(&n.to_string()), FlowControlAction::Pause);
        }
        assert!(flow.is_paused());
        for n in 0..=MAX_PAUSED_EXCHANGES {
            apply(
                &flow,
                &keys,
                Some(&n.to_string()),
                FlowControlAction::Resume,
            );
        }
        assert!(!flow.is_paused());
    }
}
