use super::histogram::{HistogramSnapshot, ShardedHistogram};
use super::sharded::ShardedCounter;
use crate::protocol::Decision;
use std::ops::AddAssign;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// The calls to one agent so far, by how they ended.
///
/// Every call ends in exactly one way, so `made` is the sum of all others and of the calls in flight.
/// While calls run, the counts are read one after another and may be off by those that just ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct CallCounts {
    /// Calls made.
    pub made: u64,
    /// Answered by the agent.
    pub answered: u64,
    /// Ended by their deadline.
    pub timed_out: u64,
    /// Ended by the end of their connection.
    pub connection_closed: u64,
    /// Answered with something that does not decode.
    pub undecodable: u64,
    /// Cancelled through the pool.
    pub cancelled: u64,
    /// Given up by their caller, whose future was dropped.
    pub given_up: u64,
    /// Refused because the event fits no frame or exceeds what the agent takes.
    pub too_large: u64,
    /// Refused or allowed because the agent asked for a pause.
    pub paused: u64,
    /// Refused because an earlier event of the exchange was unanswered.
    pub busy: u64,
    /// Refused because too many calls waited for a slot already.
    pub queue_full: u64,
    /// Waited for a slot for longer than the queue's timeout.
    pub queue_timed_out: u64,
    /// Refused because no connection could be used.
    pub unavailable: u64,
    /// Refused by the circuit breaker.
    pub circuit_open: u64,
    /// Not sent because the agent did not ask for this kind of event.
    pub skipped: u64,
}

impl CallCounts {
    /// Calls that came to their end.
    pub fn ended(&self) -> u64 {
        self.answered + self.skipped + self.failed()
    }

    /// Calls that ended without an answer of the agent, except skipped ones.
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

/// Adds up field by field.
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

/// What one agent decided, by kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct DecisionCounts {
    /// [`Decision::Allow`], with or without changes to headers and bodies.
    pub allow: u64,
    /// [`Decision::Block`].
    pub block: u64,
    /// [`Decision::Redirect`].
    pub redirect: u64,
    /// [`Decision::Challenge`].
    pub challenge: u64,
}

impl AddAssign for DecisionCounts {
    fn add_assign(&mut self, more: Self) {
        add_fields!(self += more: allow, block, redirect, challenge);
    }
}

/// How a call ended, unless it was answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ending {
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

/// Counts the calls to one agent.
#[derive(Debug, Default)]
pub(crate) struct CallTally {
    made: ShardedCounter,
    answered: ShardedCounter,
    otherwise: [AtomicU64; 13],
    /// Answers that did not allow.
    decided_otherwise: DecisionTally,
    durations: ShardedHistogram,
}

#[derive(Debug, Default)]
struct DecisionTally {
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

    /// Notes what an answer says.
    pub(crate) fn decided(&self, decision: &Decision) {
        let tally = &self.decided_otherwise;
        let count = match decision {
            Decision::Allow => return,
            Decision::Block { .. } => &tally.block,
            Decision::Redirect { .. } => &tally.redirect,
            Decision::Challenge { .. } => &tally.challenge,
        };
        count.fetch_add(1, Ordering::Relaxed);
    }

    /// Notes how long a call took that was put to the agent.
    pub(crate) fn took(&self, duration: Duration) {
        self.durations.record(duration);
    }

    pub(crate) fn durations(&self) -> HistogramSnapshot {
        self.durations.snapshot()
    }

    pub(crate) fn decisions(&self) -> DecisionCounts {
        let tally = &self.decided_otherwise;
        let count = |count: &AtomicU64| count.load(Ordering::Relaxed);
        let (block, redirect, challenge) = (
            count(&tally.block),
            count(&tally.redirect),
            count(&tally.challenge),
        );
        DecisionCounts {
            // A decision is noted before its answer is counted.
            allow: self
                .answered
                .sum()
                .saturating_sub(block + redirect + challenge),
            block,
            redirect,
            challenge,
        }
    }

    pub(crate) fn ended(&self, ending: Ending) {
        self.otherwise[ending as usize].fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn counts(&self) -> CallCounts {
        let count = |ending: Ending| self.otherwise[ending as usize].load(Ordering::Relaxed);
        // Ends are read before beginnings, so that no call seems to have ended before it was made.
        let ended = CallCounts {
            made: 0,
            answered: self.answered.sum(),
            timed_out: count(Ending::TimedOut),
            connection_closed: count(Ending::ConnectionClosed),
            undecodable: count(Ending::Undecodable),
            cancelled: count(Ending::Cancelled),
            given_up: count(Ending::GivenUp),
            too_large: count(Ending::TooLarge),
            paused: count(Ending::Paused),
            busy: count(Ending::Busy),
            queue_full: count(Ending::QueueFull),
            queue_timed_out: count(Ending::QueueTimedOut),
            unavailable: count(Ending::Unavailable),
            circuit_open: count(Ending::CircuitOpen),
            skipped: count(Ending::Skipped),
        };
        CallCounts {
            made: self.made.sum(),
            ..ended
        }
    }
}
