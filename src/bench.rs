//! What the benchmarks reach of the inside. No part of the public API: it changes without notice.
//!
//! Each part of the library opens itself in a `bench.rs` of its own, so that nothing has to be visible to others for
//! it.

pub use crate::connection::bench::{IdleConnection, PendingCalls, Ring};
pub use crate::pool::bench::{AffinityMap, Chosen, InMemory, Registry, agent_name};
pub use crate::wire::bench::{Codec, FrameReceiver};

use crate::metrics::CallTally;

/// The counts of one agent's calls.
#[derive(Debug, Default)]
pub struct CallMetrics(CallTally);

impl CallMetrics {
    /// Counts a call that was answered.
    pub fn record(&self) {
        self.0.made();
        self.0.answered();
    }

    /// Calls counted so far.
    pub fn made(&self) -> u64 {
        self.0.counts().made
    }
}
