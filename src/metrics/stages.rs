//! Durations of the stages of a call.

use super::histogram::{Histogram, HistogramSnapshot};
use std::ops::AddAssign;
use std::time::Duration;

/// Durations of the stages of one answered call.
///
/// Returned by [`Call::timed`](crate::Call::timed). The stages add up to the
/// whole call.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct CallTimings {
    /// Encoding the event.
    pub encode: Duration,
    /// Waiting for a slot and for space in the send queue, and in the send queue until the event
    /// was sent.
    pub wait: Duration,
    /// From sending the event to receiving the answer: the transport in both directions and the
    /// agent.
    pub wire: Duration,
    /// From receiving the answer to the caller's task resuming with it: decoding it and those
    /// received before it, and waking the task.
    pub decode: Duration,
}

impl CallTimings {
    /// Returns the duration of the whole call, the sum of its stages.
    pub fn total(&self) -> Duration {
        self.encode + self.wait + self.wire + self.decode
    }
}

/// Distributions of the durations of each stage, of timed calls.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct StageHistograms {
    /// Distribution of [`CallTimings::encode`].
    pub encode: HistogramSnapshot,
    /// Distribution of [`CallTimings::wait`].
    pub wait: HistogramSnapshot,
    /// Distribution of [`CallTimings::wire`].
    pub wire: HistogramSnapshot,
    /// Distribution of [`CallTimings::decode`].
    pub decode: HistogramSnapshot,
}

impl AddAssign<&Self> for StageHistograms {
    fn add_assign(&mut self, more: &Self) {
        self.encode += &more.encode;
        self.wait += &more.wait;
        self.wire += &more.wire;
        self.decode += &more.decode;
    }
}

/// Histograms of the stages of timed calls.
#[derive(Debug, Default)]
pub(crate) struct StageTally {
    encode: Histogram,
    wait: Histogram,
    wire: Histogram,
    decode: Histogram,
}

impl StageTally {
    pub(crate) fn record(&self, timings: &CallTimings) {
        self.encode.record(timings.encode);
        self.wait.record(timings.wait);
        self.wire.record(timings.wire);
        self.decode.record(timings.decode);
    }

    pub(crate) fn snapshot(&self) -> StageHistograms {
        StageHistograms {
            encode: self.encode.snapshot(),
            wait: self.wait.snapshot(),
            wire: self.wire.snapshot(),
            decode: self.decode.snapshot(),
        }
    }
}
