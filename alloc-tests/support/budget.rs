use super::threads;
use std::fmt;
use std::sync::{Mutex, MutexGuard, PoisonError};

#[global_allocator]
static ALLOCATOR: dhat::Alloc = dhat::Alloc;

/// Limit on the allocations of a number of events.
#[derive(Debug, Clone, Copy)]
pub struct Budget {
    per_1000: u64,
}

/// Allocations made by a number of events.
#[derive(Debug, Clone, Copy)]
pub struct Allocations {
    pub events: u64,
    pub count: u64,
    pub bytes: u64,
}

/// Error for more allocations than the budget allows.
#[derive(Debug, Clone, Copy)]
pub struct Breach {
    budget: Budget,
    made: Allocations,
}

impl Budget {
    pub const NONE: Self = Self::per_1000(0);

    pub const fn per_event(allocations: u64) -> Self {
        Self::per_1000(1_000 * allocations)
    }

    pub const fn per_1000(allocations: u64) -> Self {
        Self {
            per_1000: allocations,
        }
    }

    pub fn check(self, made: Allocations) -> Result<(), Breach> {
        if 1_000 * made.count > self.per_1000 * made.events {
            return Err(Breach { budget: self, made });
        }
        Ok(())
    }

    /// Returns whether one more allocation per event would exceed the budget. A budget that would
    /// not notice that is too loose.
    pub fn notices_more(self, made: Allocations) -> bool {
        let more = Allocations {
            count: made.count + made.events,
            ..made
        };
        self.check(more).is_err()
    }

    pub fn in_1000(self) -> u64 {
        self.per_1000
    }
}

impl Allocations {
    pub fn per_1000(self) -> f64 {
        1_000.0 * self.count as f64 / self.events as f64
    }
}

impl fmt::Display for Breach {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Allocations {
            events,
            count,
            bytes,
        } = self.made;
        write!(
            f,
            "{count} allocations of {bytes} bytes for {events} events, where {} per 1,000 are allowed",
            self.budget.per_1000
        )
    }
}

/// Guard that keeps the other tests of this process from running.
pub struct Alone {
    _guard: MutexGuard<'static, ()>,
}

impl Alone {
    /// Waits until no other test runs and the test harness is idle, because everything in the
    /// process is counted.
    pub fn begin() -> Self {
        static LOCK: Mutex<()> = Mutex::new(());
        // A failed test leaves no state behind.
        let guard = LOCK.lock().unwrap_or_else(PoisonError::into_inner);
        // A thread whose test has ended runs until it has woken the harness.
        threads::wait_until_others_sleep();
        Self { _guard: guard }
    }
}

/// Counts the allocations of the whole process.
pub struct Counting {
    // Dropped in this order: only one profiler may exist, so it goes before the next test begins.
    _profiler: dhat::Profiler,
    _alone: Alone,
}

impl Counting {
    pub fn begin() -> Self {
        Self {
            _alone: Alone::begin(),
            _profiler: dhat::Profiler::builder().testing().build(),
        }
    }

    /// Returns the bytes in use.
    pub fn bytes_in_use(&self) -> usize {
        dhat::HeapStats::get().curr_bytes
    }

    /// Returns the most bytes that were in use at once.
    pub fn most_bytes_in_use(&self) -> usize {
        dhat::HeapStats::get().max_bytes
    }

    /// Counts what is allocated while `work` runs. `work` returns the number of events it sent.
    pub async fn during(&self, work: impl Future<Output = u64>) -> Allocations {
        // A new runtime may still be starting its threads.
        threads::wait_until_others_sleep();
        let before = dhat::HeapStats::get();
        let events = work.await;
        let after = dhat::HeapStats::get();
        Allocations {
            events,
            count: after.total_blocks - before.total_blocks,
            bytes: after.total_bytes - before.total_bytes,
        }
    }
}

/// Returns the result of `work` and the number of its allocations.
pub fn counted<T>(work: impl FnOnce() -> T) -> (T, u64) {
    let before = dhat::HeapStats::get().total_blocks;
    let result = work();
    (result, dhat::HeapStats::get().total_blocks - before)
}
