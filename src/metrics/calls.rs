//! Counters of calls by how they ended, and of decisions.

use super::histogram::{HistogramSnapshot, ShardedHistogram};
use super::sharded::ShardedCounter;
use crate::protocol::Decision;
use std::ops::AddAssign;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Adds the listed fields of one value to those of another.
macro_rules! add_fields {
    ($sum:ident += $more:ident: $($field:ident),+ $(,)?) => {
        $($sum.$field += $more.$field;)+
    };
}
pub(super) use add_fields;

/// Defines a struct of counts, and an enum of what they count: a variant for each field, apart from
/// those that are counted in another way.
macro_rules! counts {
    (
        $(#[$about:meta])*
        $counts:ident of $kind:ident {
            $($(#[$doc:meta])* $field:ident $(= $variant:ident)?,)+
        }
    ) => {
        $(#[$about])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
        #[non_exhaustive]
        pub struct $counts {
            $($(#[$doc])* pub $field: u64,)+
        }

        #[doc = concat!("Selects a count of [`", stringify!($counts), "`].")]
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub(crate) enum $kind {
            $($($variant,)?)+
        }

        impl $kind {
            const COUNT: usize = [$($(Self::$variant,)?)+].len();
        }

        impl $counts {
            /// Reads the counts of all kinds. Others are zero.
            fn read(counters: &[AtomicU64; $kind::COUNT]) -> Self {
                let mut counts = Self::default();
                $($(counts.$field = counters[$kind::$variant as usize].load(Ordering::Relaxed);)?)+
                counts
            }
        }

        impl AddAssign for $counts {
            fn add_assign(&mut self, more: Self) {
                $(self.$field += more.$field;)+
            }
        }
    };
}
pub(super) use counts;

counts! {
    /// Numbers of calls to one agent so far, by how they ended.
    ///
    /// Every call ends in exactly one way, so `made` is the sum of all other fields and of the
    /// calls in flight. While calls run, the counters are read one after another and may be off by
    /// those that just ended.
    CallCounts of CallCounter {
        /// Calls made, including those that have not ended yet.
        made,
        /// Calls that the agent answered.
        answered,
        /// Calls that the agent did not answer before their deadline.
        timed_out = TimedOut,
        /// Calls whose connection ended before the answer.
        connection_closed = ConnectionClosed,
        /// Calls whose answer could not be decoded.
        undecodable = Undecodable,
        /// Calls cancelled through the pool.
        cancelled = Cancelled,
        /// Calls whose handler, of an agent in this process, panicked.
        panicked = Panicked,
        /// Calls whose future was dropped by the caller.
        given_up = GivenUp,
        /// Calls not sent because the event exceeds the largest frame or the agent's limit.
        too_large = TooLarge,
        /// Calls rejected, or allowed without the agent, because of a pause by flow control.
        paused = Paused,
        /// Calls rejected because an earlier event of the exchange was unanswered.
        busy = Busy,
        /// Calls rejected because the wait queue for slots was full.
        queue_full = QueueFull,
        /// Calls that waited for a slot until the queue timeout.
        queue_timed_out = QueueTimedOut,
        /// Calls rejected because no connection could be used.
        unavailable = Unavailable,
        /// Calls rejected by the circuit breaker.
        circuit_open = CircuitOpen,
        /// Calls allowed without the agent because it does not subscribe to this kind of event.
        skipped = Skipped,
    }
}

impl CallCounts {
    /// Returns the number of calls that have ended.
    pub fn ended(&self) -> u64 {
        self.answered + self.skipped + self.failed()
    }

    /// Returns the number of calls that ended without a decoded answer, except skipped ones.
    pub fn failed(&self) -> u64 {
        self.timed_out
            + self.connection_closed
            + self.undecodable
            + self.cancelled
            + self.panicked
            + self.given_up
            + self.too_large
            + self.paused
            + self.busy
            + self.queue_full
            + self.queue_timed_out
            + self.unavailable
            + self.circuit_open
    }
}

/// Numbers of an agent's answers, by decision.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct DecisionCounts {
    /// Answers with [`Decision::Allow`], with or without changes to headers and bodies.
    pub allow: u64,
    /// Answers with [`Decision::Block`].
    pub block: u64,
    /// Answers with [`Decision::Redirect`].
    pub redirect: u64,
    /// Answers with [`Decision::Challenge`].
    pub challenge: u64,
}

impl AddAssign for DecisionCounts {
    fn add_assign(&mut self, more: Self) {
        add_fields!(self += more: allow, block, redirect, challenge);
    }
}

/// Counters of the calls to one agent.
#[derive(Debug, Default)]
pub(crate) struct CallTally {
    made: ShardedCounter,
    answered: ShardedCounter,
    /// Calls that ended without an answer, by [`CallCounter`].
    unanswered: [AtomicU64; CallCounter::COUNT],
    /// Answers that did not allow. Those that allow are the rest of `answered`, so that an `allow`
    /// costs one counter only.
    denials: DenialTally,
    durations: ShardedHistogram,
}

#[derive(Debug, Default)]
struct DenialTally {
    block: AtomicU64,
    redirect: AtomicU64,
    challenge: AtomicU64,
}

impl CallTally {
    pub(crate) fn made(&self) {
        self.made.increment();
    }

    pub(crate) fn answered(&self) {
        self.answered.increment();
    }

    /// Returns the number of answers.
    pub(crate) fn answers(&self) -> u64 {
        self.answered.sum()
    }

    /// Counts the decision of an answer. Called before [`answered`](Self::answered).
    pub(crate) fn decided(&self, decision: &Decision) {
        let tally = &self.denials;
        let count = match decision {
            Decision::Allow => return,
            Decision::Block { .. } => &tally.block,
            Decision::Redirect { .. } => &tally.redirect,
            Decision::Challenge { .. } => &tally.challenge,
        };
        count.fetch_add(1, Ordering::Relaxed);
    }

    /// Records the duration of a call that was sent to the agent.
    pub(crate) fn took(&self, duration: Duration) {
        self.durations.record(duration);
    }

    pub(crate) fn durations(&self) -> HistogramSnapshot {
        self.durations.snapshot()
    }

    pub(crate) fn decisions(&self) -> DecisionCounts {
        let tally = &self.denials;
        let count = |count: &AtomicU64| count.load(Ordering::Relaxed);
        let (block, redirect, challenge) = (
            count(&tally.block),
            count(&tally.redirect),
            count(&tally.challenge),
        );
        DecisionCounts {
            // Decisions are counted before their answers, so between the two the difference could
            // be negative.
            allow: self
                .answered
                .sum()
                .saturating_sub(block + redirect + challenge),
            block,
            redirect,
            challenge,
        }
    }

    pub(crate) fn ended(&self, counter: CallCounter) {
        self.unanswered[counter as usize].fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn counts(&self) -> CallCounts {
        // `made` is read last, so that the calls that ended never outnumber those that were made.
        let mut counts = CallCounts::read(&self.unanswered);
        counts.answered = self.answered.sum();
        counts.made = self.made.sum();
        counts
    }
}
