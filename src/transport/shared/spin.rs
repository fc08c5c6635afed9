//! Waiting without sleeping: when it is worth it, and for how long.
//!
//! A sleeping peer is woken by a system call and by the scheduler, which costs more than all other
//! work for a call. Looking at the ring instead costs nothing else but the processor, so it is done
//! only while something is expected, not where it cannot help, and rarely after it was in vain.

use crate::connection::{SharedMemory, give_way};
use rustix::thread::sched_getaffinity;
use std::cell::Cell;
use std::sync::OnceLock;
use std::task::Context;
use std::thread::available_parallelism;
use std::time::{Duration, Instant};
use tokio::runtime::{Handle, RuntimeFlavor};

/// Looks at the ring in one poll of the task, with a pause of the processor after each.
const LOOKS: u32 = 32;

/// Looks in one poll on a runtime of several threads: other threads run other tasks meanwhile, and
/// one that sleeps is woken each time that this task yields.
const LOOKS_OF_SEVERAL: u32 = 256;

/// Time after which the runtime looks at its I/O in between, though other tasks may not be ready.
const DRIVER_INTERVAL: Duration = Duration::from_micros(2);

/// Window before the time that waking the peer takes is known: twice what it is on a machine whose
/// processors sleep deeply.
const FIRST_WINDOW: Duration = Duration::from_micros(50);

/// Bounds of the window.
const WINDOWS: [Duration; 2] = [Duration::from_micros(10), Duration::from_micros(100)];

/// Most waits that sleep at once after a vain one.
const MAX_PENALTY: u32 = 64;

/// Time after which another link of the thread counts as not waiting any more.
const TURN: Duration = Duration::from_micros(20);

thread_local! {
    /// The link that waits on this thread, and when it last looked.
    static SPINNER: Cell<Option<(usize, Instant)>> = const { Cell::new(None) };
}

/// State of the waits of one link.
#[derive(Debug)]
pub(super) struct Spin {
    mode: SharedMemory,
    looks: u32,
    /// Begin of the wait that is under way.
    began: Option<Instant>,
    yielded: Instant,
    window: Duration,
    /// Waits that sleep at once after the next vain one.
    penalty: u32,
    /// Waits that sleep at once from now on. Those that sleep because nothing is expected count.
    skipped: u32,
    /// Set by the owner of the link, if that knows; else something is expected after everything
    /// that was received.
    expects: Option<bool>,
    has_received: bool,
}

/// Decision while the ring is empty.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Wait {
    /// Let others run before the first look, which also lets this task send its answers.
    Begin,
    Look,
    Sleep,
    /// Sleep after a wait in vain.
    GiveUp,
}

impl Spin {
    pub(super) fn new(mode: SharedMemory, now: Instant) -> Self {
        Self {
            mode,
            looks: match Handle::try_current().map(|runtime| runtime.runtime_flavor()) {
                Ok(RuntimeFlavor::CurrentThread) => LOOKS,
                _ => LOOKS_OF_SEVERAL,
            },
            began: None,
            yielded: now,
            window: FIRST_WINDOW,
            penalty: 0,
            skipped: 0,
            expects: None,
            has_received: false,
        }
    }

    pub(super) fn set_expecting(&mut self, is_expecting: bool) {
        self.expects = Some(is_expecting);
    }

    /// Records that something was received, which ends a wait.
    pub(super) fn received(&mut self) {
        self.has_received = true;
        if self.began.take().is_some() {
            self.penalty /= 2;
        }
    }

    /// Records the time from waking the peer to its first bytes.
    pub(super) fn woke_in(&mut self, time: Duration) {
        // A moving average of the last few.
        let doubled = (2 * time).clamp(WINDOWS[0], WINDOWS[1]);
        self.window = (self.window * 7 + doubled) / 8;
    }

    /// Decides how to wait. `link` identifies the link, and `shares_processor` tells whether the
    /// peer last waited on this processor, where it cannot run while this side does not sleep.
    pub(super) fn next(
        &mut self,
        link: usize,
        now: Instant,
        shares_processor: impl FnOnce() -> bool,
    ) -> Wait {
        let is_busy = self.mode == SharedMemory::BusyPoll;
        let expects = self.expects.unwrap_or(self.has_received || is_busy);
        if let Some(began) = self.began {
            let is_over = !is_busy && now.duration_since(began) >= self.window;
            if expects && !is_over && takes_turn(link, now) {
                return Wait::Look;
            }
            self.began = None;
            self.has_received = false;
            if !expects {
                return Wait::Sleep;
            }
            self.penalty = (2 * self.penalty).clamp(1, MAX_PENALTY);
            self.skipped = self.penalty;
            return Wait::GiveUp;
        }
        if !expects || is_rationed() {
            if self.expects.is_some() {
                self.skipped = self.skipped.saturating_sub(1);
            }
            return Wait::Sleep;
        }
        if !is_busy && self.skipped > 0 {
            self.skipped -= 1;
            self.has_received = false;
            return Wait::Sleep;
        }
        if shares_processor() || !takes_turn(link, now) {
            self.has_received = false;
            return Wait::Sleep;
        }
        self.began = Some(now);
        Wait::Begin
    }

    /// Returns whether waits have no limit.
    pub(super) fn never_sleeps(&self) -> bool {
        self.mode == SharedMemory::BusyPoll
    }

    /// Returns the number of looks in one poll.
    pub(super) fn looks(&self) -> u32 {
        self.looks
    }

    /// Returns whether a wait may begin once the owner of the link expects something, which it does
    /// not yet.
    pub(super) fn may_begin(&self) -> bool {
        self.expects == Some(false) && self.skipped == 0 && !is_rationed()
    }

    /// Lets other tasks run before the next look.
    pub(super) fn let_others_run(&mut self, now: Instant, cx: &mut Context<'_>) {
        if now.duration_since(self.yielded) < DRIVER_INTERVAL {
            cx.waker().wake_by_ref();
            return;
        }
        self.yielded = now;
        give_way(cx);
    }
}

/// Returns whether a link may look now: only one per thread does, as each slows the others.
fn takes_turn(link: usize, now: Instant) -> bool {
    SPINNER.with(|spinner| {
        let is_free = spinner
            .get()
            .is_none_or(|(other, last)| other == link || now.duration_since(last) > TURN);
        if is_free {
            spinner.set(Some((link, now)));
        }
        is_free
    })
}

/// Returns whether the process may use the time of one processor only, although it may run on
/// several: waiting would use up its share. A process that is bound to one processor may have it to
/// itself; whether the peer runs there as well is known from its own word.
fn is_rationed() -> bool {
    static IS_RATIONED: OnceLock<bool> = OnceLock::new();
    *IS_RATIONED.get_or_init(|| {
        let allowed = sched_getaffinity(None).map_or(1, |processors| processors.count());
        allowed > 1 && available_parallelism().is_ok_and(|count| count.get() == 1)
    })
}

#[cfg(all(test, not(tollgate_loom)))]
#[path = "../../../tests/unit/transport/shared/spin.rs"]
mod tests;
