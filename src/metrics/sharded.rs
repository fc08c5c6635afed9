//! Counters for frequent increments from many threads.

use crossbeam_utils::CachePadded;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

/// Number of shards: enough that the threads of a busy proxy rarely share one.
pub(super) const SHARDS: usize = 8;

/// A counter that many threads increment without contending for a cache line.
#[derive(Debug, Default)]
pub(crate) struct ShardedCounter([CachePadded<AtomicU64>; SHARDS]);

impl ShardedCounter {
    pub(crate) fn increment(&self) {
        self.0[shard()].fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn sum(&self) -> u64 {
        self.0
            .iter()
            .map(|shard| shard.load(Ordering::Relaxed))
            .sum()
    }
}

/// Returns the shard of this thread. Shards are assigned to threads in turn.
pub(super) fn shard() -> usize {
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    thread_local! {
        static OWN: usize = NEXT.fetch_add(1, Ordering::Relaxed) % SHARDS;
    }
    // While a thread exits, its thread-local is destroyed already; any shard will do.
    OWN.try_with(|own| *own).unwrap_or(0)
}

#[cfg(all(test, not(tollgate_loom)))]
#[path = "../../tests/unit/metrics/sharded.rs"]
mod tests;
