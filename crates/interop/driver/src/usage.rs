use rustix::time::{ClockId, clock_gettime};
use serde::{Deserialize, Serialize};
use std::ops::Sub;
use tollgate_counting_alloc::allocations;

/// Resources that a process has used.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(crate) struct Usage {
    /// Processor time in user and system mode, of all threads.
    pub(crate) cpu_nanoseconds: u64,
    /// Heap allocations.
    pub(crate) allocations: u64,
}

impl Usage {
    /// Returns the usage of this process since its start.
    pub(crate) fn so_far() -> Self {
        let cpu = clock_gettime(ClockId::ProcessCPUTime);
        Self {
            cpu_nanoseconds: cpu.tv_sec as u64 * 1_000_000_000 + cpu.tv_nsec as u64,
            allocations: allocations(),
        }
    }
}

impl Sub for Usage {
    type Output = Self;

    fn sub(self, earlier: Self) -> Self {
        Self {
            cpu_nanoseconds: self.cpu_nanoseconds - earlier.cpu_nanoseconds,
            allocations: self.allocations - earlier.allocations,
        }
    }
}
