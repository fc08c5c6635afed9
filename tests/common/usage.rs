//! Memory and descriptors that this process uses.

const PAGE: usize = 4096;

/// Returns the number of descriptors that are open.
pub fn descriptors() -> usize {
    std::fs::read_dir("/proc/self/fd").unwrap().count()
}

/// Returns the size of the writable memory of this process in bytes, whether touched or not.
pub fn virtual_memory() -> usize {
    pages(5) * PAGE
}

/// Watches how much memory this process uses at once.
///
/// nextest runs each test in a process of its own. The test plays the other side as well, and the
/// system's allocator returns memory late.
pub struct MemoryGrowth {
    before: usize,
}

impl MemoryGrowth {
    /// Begins with what is used now.
    pub fn watch() -> Self {
        // Forgets the peak so far. Where the system refuses that, the peak before counts as well.
        let _ = std::fs::write("/proc/self/clear_refs", "5");
        Self {
            before: pages(1) * PAGE,
        }
    }

    /// Asserts that the memory in use has never grown by more than `limit` bytes.
    #[track_caller]
    pub fn expect_within(&self, limit: usize) {
        let grown = peak().saturating_sub(self.before);
        assert!(grown <= limit, "{grown} bytes instead of {limit}");
    }
}

/// Returns the most memory that was in use at once, in bytes.
fn peak() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kibibytes = peak.unwrap().trim().trim_end_matches(" kB");
    1024 * kibibytes.parse::<usize>().unwrap()
}

/// Returns a number of pages of this process: see proc_pid_statm(5).
fn pages(column: usize) -> usize {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap();
    statm.split(' ').nth(column).unwrap().parse().unwrap()
}
