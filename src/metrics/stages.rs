//! Where the time of a call goes.

use super::histogram::{Histogram, HistogramSnapshot};
use std::ops::AddAssign;
use std::time::Duration;

/// Where the time of one answered call went.
///
/// See [`AgentPool::send_timed`](crate::AgentPool::send_timed).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct CallTimings {
    /// Writing the event.
    pub encode: Duration,
    /// Waiting: for a slot, for room in the ring, and in the ring until the event was sent.
    pub wait: Duration,
    /// From sending the event to receiving the answer: both ways, and in the agent.
    pub wire: Duration,
    /// From receiving the answer to the caller's task having it: reading it, those before it, and waking the task.
    pub decode: Duration,
}

impl CallTimings {
    /// The whole call: the sum of its stages.
    pub fn total(&self) -> Duration {
        self.encode + self.wait + self.wire + self.decode
    }
}

/// How often each stage of a call took how long, of the calls that were timed.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct StageHistograms {
    /// [`CallTimings::encode`].
    pub encode: HistogramSnapshot,
    /// [`CallTimings::wait`].
    pub wait: HistogramSnapshot,
    /// [`CallTimings::wire`].
    pub wire: HistogramSnapshot,
    /// [`CallTimings::decode`].
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

/// Collects the stages of timed calls.
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
