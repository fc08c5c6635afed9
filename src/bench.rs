//! Internals that the benchmarks use. Not part of the public API: it changes without notice.
//!
//! Each part of the library exports its internals in a `bench.rs` of its own, so that no item has
//! to be visible to other modules for the benchmarks' sake.

pub use crate::connection::bench::{IdleConnection, PendingCalls, Ring};
pub use crate::pool::bench::{AffinityMap, Chosen, InMemory, Registry, agent_name, choose};
pub use crate::wire::bench::{Codec, FrameReceiver};

use crate::metrics::CallTally;

/// Call counters of one agent.
#[derive(Debug, Default)]
pub struct CallMetrics(CallTally);

impl CallMetrics {
    /// Counts a call and its answer.
    pub fn record(&self) {
        self.0.made();
        self.0.answered();
    }

    /// Returns the number of calls counted so far.
    pub fn made(&self) -> u64 {
        self.0.counts().made
    }
}
