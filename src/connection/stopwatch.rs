//! Timing of the stages of a call, for the calls that are timed.

use crate::clock;
use crate::metrics::CallTimings;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// Sampling rate: every nth use of each slot is timed.
///
/// Holds n - 1, for n a power of two, as a mask for the number of uses; `u64::MAX` disables it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Sampling(u64);

impl Sampling {
    /// Times one call in `interval`, rounded up to a power of two; 0 disables sampling.
    pub(crate) fn one_in(interval: u32) -> Self {
        Self(match interval {
            0 => u64::MAX,
            _ => u64::from(interval).next_power_of_two() - 1,
        })
    }

    /// Returns whether to time the call that opens a slot for the `generation`th time.
    pub(super) fn selects(self, generation: u64) -> bool {
        generation & self.0 == self.0
    }
}

/// Times at which a timed call passed from one stage to the next. Shared by the call and its frame.
#[derive(Debug, Clone)]
pub(crate) struct Stopwatch(Arc<Marks>);

#[derive(Debug)]
struct Marks {
    /// Zero point of the other fields, which are in nanoseconds; 0 is a time not recorded yet.
    epoch: Instant,
    encoding: AtomicU64,
    encoded: AtomicU64,
    sent: AtomicU64,
    received: AtomicU64,
    taken: AtomicU64,
}

impl Stopwatch {
    pub(super) fn new() -> Self {
        let mark = || AtomicU64::new(0);
        Self(Arc::new(Marks {
            epoch: clock::now(),
            encoding: mark(),
            encoded: mark(),
            sent: mark(),
            received: mark(),
            taken: mark(),
        }))
    }

    /// Records that encoding of the event begins.
    pub(super) fn begin_encoding(&self) {
        self.0.note(&self.0.encoding, clock::now());
    }

    /// Records that the event is encoded.
    pub(super) fn end_encoding(&self) {
        self.0.note(&self.0.encoded, clock::now());
    }

    /// Records that the frame is taken out of the send queue to be sent.
    pub(super) fn sent(&self) {
        self.0.note(&self.0.sent, clock::now());
    }

    /// Records that the caller has the answer, and the time at which that was received.
    pub(super) fn answered(&self, received: Instant) {
        self.0.note(&self.0.received, received);
        self.0.note(&self.0.taken, clock::now());
    }

    /// Returns the timing breakdown of a call made at `started`, or `None` before it is answered.
    ///
    /// An answer that was received before its event was recorded as sent counts as received at
    /// once. So no stage is negative, and the stages add up.
    pub(super) fn timings(&self, started: Instant) -> Option<CallTimings> {
        let marks = &*self.0;
        let taken = marks.noted(&marks.taken)?;
        let encoding = marks.noted(&marks.encoding)?;
        let encoded = marks.noted(&marks.encoded)?;
        let sent = marks.noted(&marks.sent).unwrap_or(encoded).max(encoded);
        let received = marks.noted(&marks.received).unwrap_or(sent).max(sent);
        Some(CallTimings {
            encode: encoded.saturating_duration_since(encoding),
            wait: encoding.saturating_duration_since(started) + (sent - encoded),
            wire: received - sent,
            decode: taken.saturating_duration_since(received),
        })
    }

    /// Clears the times for another call. Returns `None` if a frame still shares them.
    pub(super) fn reset(mut self) -> Option<Self> {
        let marks = Arc::get_mut(&mut self.0)?;
        for mark in [
            &mut marks.encoding,
            &mut marks.encoded,
            &mut marks.sent,
            &mut marks.received,
            &mut marks.taken,
        ] {
            *mark.get_mut() = 0;
        }
        Some(self)
    }
}

impl Marks {
    fn note(&self, mark: &AtomicU64, at: Instant) {
        let elapsed = at.saturating_duration_since(self.epoch).as_nanos();
        let elapsed = u64::try_from(elapsed).unwrap_or(u64::MAX);
        mark.store(elapsed.max(1), Ordering::Release);
    }

    fn noted(&self, mark: &AtomicU64) -> Option<Instant> {
        match mark.load(Ordering::Acquire) {
            0 => None,
            elapsed => Some(self.epoch + Duration::from_nanos(elapsed)),
        }
    }
}

#[cfg(all(test, not(tollgate_loom)))]
#[path = "../../tests/unit/connection/stopwatch.rs"]
mod tests;
