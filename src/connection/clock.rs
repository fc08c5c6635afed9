//! Where the time of a call goes, for the calls that are timed.

use crate::metrics::CallTimings;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// Which calls of a connection are timed though nobody asked for it: of every slot each so manieth.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Sampling(u64);

impl Sampling {
    /// One in `interval`, made a power of two; none where that is 0.
    pub(crate) fn one_in(interval: u32) -> Self {
        Self(match interval {
            0 => u64::MAX,
            _ => u64::from(interval).next_power_of_two() - 1,
        })
    }

    /// Whether it is the turn of the call that opens a slot for the `generation`th time.
    pub(super) fn takes(self, generation: u64) -> bool {
        generation & self.0 == self.0
    }
}

/// What is noted of a timed call on its way. Whoever has a share in it may note something.
#[derive(Clone)]
pub(crate) struct Stopwatch(Arc<Marks>);

struct Marks {
    /// Zero point of the others, which are in nanoseconds; 0 is what has not happened.
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
            epoch: Instant::now(),
            encoding: mark(),
            encoded: mark(),
            sent: mark(),
            received: mark(),
            taken: mark(),
        }))
    }

    /// Notes that the event is about to be written.
    pub(super) fn begin_encoding(&self) {
        self.0.note(&self.0.encoding, Instant::now());
    }

    /// Notes that the event is written.
    pub(super) fn end_encoding(&self) {
        self.0.note(&self.0.encoded, Instant::now());
    }

    /// Notes that the event is being sent.
    pub(super) fn sent(&self) {
        self.0.note(&self.0.sent, Instant::now());
    }

    /// Notes that the caller has the answer, and when that was received.
    pub(super) fn answered(&self, received: Instant) {
        self.0.note(&self.0.received, received);
        self.0.note(&self.0.taken, Instant::now());
    }

    /// Where the time went of a call that was made at `started`, once it is answered.
    ///
    /// An answer that came before its question counts as coming right after it.
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

    /// Makes it good for another call, unless a frame has a share in it still.
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

impl fmt::Debug for Stopwatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sent = self.0.noted(&self.0.sent);
        f.debug_struct("Stopwatch")
            .field("sent", &sent)
            .finish_non_exhaustive()
    }
}

#[cfg(all(test, not(tollgate_loom)))]
mod tests {
    use super::*;

    #[test]
    fn one_in_so_many_is_timed() {
        for (interval, timed) in [(0, 0), (1, 1024), (2, 512), (3, 256), (64, 16)] {
            let sampling = Sampling::one_in(interval);
            let takes = |generation: &u64| sampling.takes(*generation);
            assert_eq!((1..=1024).filter(takes).count(), timed, "{interval}");
        }
        assert!(Sampling::one_in(u32::MAX).takes((1 << 32) - 1));
    }

    #[test]
    fn stages_add_up_though_the_answer_came_first() {
        let started = Instant::now();
        for is_early in [false, true] {
            let watch = Stopwatch::new();
            watch.begin_encoding();
            let early = Instant::now();
            watch.end_encoding();
            watch.sent();
            assert_eq!(watch.timings(started), None);
            let before = started.elapsed();
            watch.answered(if is_early { early } else { Instant::now() });
            let timings = watch.timings(started).expect("it is answered");
            assert!((before..=started.elapsed()).contains(&timings.total()));
        }
    }

    #[test]
    fn a_watch_is_used_again_once_its_frame_is_gone() {
        let watch = Stopwatch::new();
        let frame = watch.clone();
        watch.begin_encoding();
        frame.sent();
        assert!(watch.clone().reset().is_none());
        drop(frame);
        let reset = watch.reset().expect("nobody else has it");
        assert_eq!(reset.0.noted(&reset.0.sent), None);
    }
}
