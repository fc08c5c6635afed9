use super::threads;
use std::fmt;
use std::sync::{Mutex, MutexGuard, PoisonError};

#[global_allocator]
static ALLOCATOR: dhat::Alloc = dhat::Alloc;

/// Allocations that a number of events may make.
#[derive(Debug, Clone, Copy)]
pub struct Budget {
    per_1000: u64,
}

/// Allocations that a number of events made.
#[derive(Debug, Clone, Copy)]
pub struct Allocations {
    pub events: u64,
    pub count: u64,
    pub bytes: u64,
}

/// More allocations than the budget allows.
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

    /// Whether one allocation more in each event would be a breach. A budget that is looser holds nothing.
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

/// Keeps the other tests of the process from running.
pub struct Alone {
    _turn: MutexGuard<'static, ()>,
}

impl Alone {
    /// Waits for this test's turn, and until what the test harness does between two tests is over: all of it
    /// would be counted.
    pub fn begin() -> Self {
        static TURN: Mutex<()> = Mutex::new(());
        // A test that failed has left nothing behind.
        let turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
        // A thread whose test is over runs until it has woken the harness; one that wants another turn rests.
        threads::until_others_rest();
        Self { _turn: turn }
    }
}

/// Counts what the whole process allocates.
pub struct Counting {
    // Dropped in this order: the profiler is gone before another test begins one.
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

    /// Bytes that are in use.
    pub fn bytes_in_use(&self) -> usize {
        dhat::HeapStats::get().curr_bytes
    }

    /// The most bytes that were in use at once so far.
    pub fn most_bytes_in_use(&self) -> usize {
        dhat::HeapStats::get().max_bytes
    }

    /// What is allocated while `work` puts events, of which it returns the number.
    pub async fn during(&self, work: impl Future<Output = u64>) -> Allocations {
        // A runtime that has just begun may still be starting its threads.
        threads::until_others_rest();
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

/// What `work` comes to, and how many allocations it makes.
pub fn counted<T>(work: impl FnOnce() -> T) -> (T, u64) {
    let before = dhat::HeapStats::get().total_blocks;
    let result = work();
    (result, dhat::HeapStats::get().total_blocks - before)
}
