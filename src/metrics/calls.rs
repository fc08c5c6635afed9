//! Counters of calls by how they ended, and of decisions.

use super::histogram::{HistogramSnapshot, ShardedHistogram};
use super::sharded::ShardedCounter;
use crate::protocol::Decision;
use std::ops::AddAssign;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Numbers of calls to one agent so far, by how they ended.
///
/// Every call ends in exactly one way, so `made` is the sum of all other fields and of the calls in
/// flight. While calls run, the counters are read one after another and may be off by those that
/// just ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct CallCounts {
    /// Calls made, including those that have not ended yet.
    pub made: u64,
    /// Calls that the agent answered.
    pub answered: u64,
    /// Calls that the agent did not answer before their deadline.
    pub timed_out: u64,
    /// Calls whose connection ended before the answer.
    pub connection_closed: u64,
    /// Calls whose answer could not be decoded.
    pub undecodable: u64,
    /// Calls cancelled through the pool.
    pub cancelled: u64,
    /// Calls whose future was dropped by the caller.
    pub given_up: u64,
    /// Calls not sent because the event exceeds the largest frame or the agent's limit.
    pub too_large: u64,
    /// Calls rejected, or allowed without the agent, because of a pause by flow control.
    pub paused: u64,
    /// Calls rejected because an earlier event of the exchange was unanswered.
    pub busy: u64,
    /// Calls rejected because the wait queue for slots was full.
    pub queue_full: u64,
    /// Calls that waited for a slot until the queue timeout.
    pub queue_timed_out: u64,
    /// Calls rejected because no connection could be used.
    pub unavailable: u64,
    /// Calls rejected by the circuit breaker.
    pub circuit_open: u64,
    /// Calls allowed without the agent because it does not subscribe to this kind of event.
    pub skipped: u64,
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

/// Adds the listed fields of one value to those of another.
macro_rules! add_fields {
    ($sum:ident += $more:ident: $($field:ident),+ $(,)?) => {
        $($sum.$field += $more.$field;)+
    };
}
pub(super) use add_fields;

impl AddAssign for CallCounts {
    fn add_assign(&mut self, more: Self) {
        add_fields!(self += more: made, answered, timed_out, connection_closed, undecodable, cancelled,
            given_up, too_large, paused, busy, queue_full, queue_timed_out, unavailable, circuit_open, skipped);
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

/// Counter of calls that were not answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum CallCounter {
    TimedOut,
    ConnectionClosed,
    Undecodable,
    Cancelled,
    GivenUp,
    TooLarge,
    Paused,
    Busy,
    QueueFull,
    QueueTimedOut,
    Unavailable,
    CircuitOpen,
    Skipped,
}

/// Counters of the calls to one agent.
#[derive(Debug, Default)]
pub(crate) struct CallTally {
    made: ShardedCounter,
    answered: ShardedCounter,
    /// Calls that ended without an answer, by [`CallCounter`].
    unanswered: [AtomicU64; 13],
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
        let count =
            |counter: CallCounter| self.unanswered[counter as usize].load(Ordering::Relaxed);
        // `made` is read last, so that the calls that ended never outnumber those that were made.
        let ended = CallCounts {
            made: 0,
            answered: self.answered.sum(),
            timed_out: count(CallCounter::TimedOut),
            connection_closed: count(CallCounter::ConnectionClosed),
            undecodable: count(CallCounter::Undecodable),
            cancelled: count(CallCounter::Cancelled),
            given_up: count(CallCounter::GivenUp),
            too_large: count(CallCounter::TooLarge),
            paused: count(CallCounter::Paused),
            busy: count(CallCounter::Busy),
            queue_full: count(CallCounter::QueueFull),
            queue_timed_out: count(CallCounter::QueueTimedOut),
            unavailable: count(CallCounter::Unavailable),
            circuit_open: count(CallCounter::CircuitOpen),
            skipped: count(CallCounter::Skipped),
        };
        CallCounts {
            made: self.made.sum(),
            ..ended
        }
    }
}
