//! The share of one poll: how much a connection does before other tasks run.

use crate::clock;
use std::pin::pin;
use std::task::Context;
use std::time::{Duration, Instant};
use tokio::task::yield_now;

/// Units of work in a turn. A frame is one, and so is every [`WORK_UNIT`] that is received or
/// handled.
const MAX_WORK: usize = 512;

/// Bytes that count as one unit of work.
const WORK_UNIT: usize = 4 * 1024;

/// Time that a turn lasts at most, apart from the last frame, if frames are not tiny.
const MAX_TIME: Duration = Duration::from_millis(1);

/// Length from which a frame may take long enough to look at the clock.
const MIN_TIMED_LEN: usize = 4 * 1024;

/// The rest of a turn.
#[derive(Debug)]
pub(crate) struct Turn {
    work_left: usize,
    /// Time of the first frame that was not tiny.
    began: Option<Instant>,
}

impl Turn {
    pub(crate) fn new() -> Self {
        Self {
            work_left: MAX_WORK,
            began: None,
        }
    }

    /// Returns whether other tasks have to run.
    pub(crate) fn is_over(&self) -> bool {
        self.work_left == 0
    }

    /// Ends the turn early.
    pub(crate) fn end(&mut self) {
        self.work_left = 0;
    }

    pub(crate) fn note_received(&mut self, bytes: usize) {
        self.work_left = self.work_left.saturating_sub((bytes / WORK_UNIT).max(1));
    }

    /// Counts a frame that is handled next.
    pub(crate) fn begin_frame(&mut self, len: usize) {
        self.work_left = self.work_left.saturating_sub(1 + len / WORK_UNIT);
        if len >= MIN_TIMED_LEN {
            self.check_time();
        }
    }

    fn check_time(&mut self) {
        let now = clock::now();
        let began = *self.began.get_or_insert(now);
        if now.saturating_duration_since(began) > MAX_TIME {
            self.end();
        }
    }
}

/// Wakes the task again once other tasks have run and the runtime has looked for what arrived.
pub(crate) fn give_way(cx: &mut Context<'_>) {
    // A task that wakes itself is polled some 60 times before a runtime of one thread looks for
    // what arrived, and each time it may take a whole turn.
    let _ = pin!(yield_now()).poll(cx);
}

#[cfg(all(test, not(tollgate_loom)))]
#[path = "../../tests/unit/connection/turn.rs"]
mod tests;
