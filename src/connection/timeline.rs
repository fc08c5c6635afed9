//! Points in time of one connection.

use super::time_limit::{TimeLimit, nanoseconds};
use crate::clock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// The age of a connection, and when it was last used.
///
/// Deadlines are in *ticks*, milliseconds since the connection was created.
#[derive(Debug)]
pub(crate) struct Timeline {
    /// Time at which the connection was created, after its handshake.
    epoch: Instant,
    /// Tick of the last call; 0 if there was none.
    last_call: AtomicU64,
    /// Tick at which bytes were last received; 0 if there were none since the handshake.
    last_received: AtomicU64,
}

const NANOSECONDS_PER_TICK: u64 = 1_000_000;

impl Timeline {
    /// Creates the timeline of a connection that begins now.
    pub(super) fn new() -> Self {
        Self {
            epoch: clock::now(),
            last_call: AtomicU64::new(0),
            last_received: AtomicU64::new(0),
        }
    }

    /// Converts a point in time to ticks.
    pub(super) fn ticks(&self, at: Instant) -> u64 {
        self.nanoseconds(at) / NANOSECONDS_PER_TICK
    }

    /// Converts a point in time to nanoseconds since the connection was created, 0 before that.
    pub(super) fn nanoseconds(&self, at: Instant) -> u64 {
        nanoseconds(at.saturating_duration_since(self.epoch))
    }

    /// Converts nanoseconds since the connection was created to a point in time.
    pub(super) fn instant(&self, nanoseconds: u64) -> Instant {
        self.epoch + Duration::from_nanos(nanoseconds)
    }

    /// Returns the tick at which a call expires that started at this many nanoseconds. It is
    /// rounded up, so that no call expires early.
    pub(super) fn deadline(&self, limit: TimeLimit, started: u64) -> u64 {
        let deadline = if started == 0 {
            // The call may have started before the connection, so only the limit has its deadline.
            self.ticks(limit.deadline())
        } else {
            started.saturating_add(nanoseconds(limit.timeout())) / NANOSECONDS_PER_TICK
        };
        deadline.saturating_add(1)
    }

    /// Records a call that started at this many nanoseconds.
    pub(super) fn note_call(&self, started: u64) {
        self.last_call
            .store(started / NANOSECONDS_PER_TICK, Ordering::Relaxed);
    }

    /// Records that bytes were received now, and returns the time in nanoseconds.
    pub(super) fn note_received(&self) -> u64 {
        let now = self.nanoseconds(clock::now());
        self.last_received
            .store(now / NANOSECONDS_PER_TICK, Ordering::Relaxed);
        now
    }

    /// Returns the time since the last call, or the age of the connection if there was none.
    pub(crate) fn idle_time(&self) -> Duration {
        self.time_since(&self.last_call)
    }

    /// Returns the time since bytes were last received, or the age of the connection if there were
    /// none since the handshake.
    pub(crate) fn silence(&self) -> Duration {
        self.time_since(&self.last_received)
    }

    /// Returns the time since the handshake.
    pub(crate) fn age(&self) -> Duration {
        clock::elapsed(self.epoch)
    }

    /// Returns whether the agent has sent anything since the handshake.
    pub(crate) fn has_received(&self) -> bool {
        self.last_received.load(Ordering::Relaxed) != 0
    }

    fn time_since(&self, ticks: &AtomicU64) -> Duration {
        let at = Duration::from_millis(ticks.load(Ordering::Relaxed));
        self.age().saturating_sub(at)
    }
}
