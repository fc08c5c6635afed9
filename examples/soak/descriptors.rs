//! Takes every free file descriptor of this process.

use rlimit::Resource;
use std::fs::File;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

/// Descriptors that the lowered limit leaves beyond the open ones, so that few have to be taken.
const SPARE: u64 = 16;

/// Interval at which descriptors that became free are taken.
const INTERVAL: Duration = Duration::from_millis(1);

/// Keeps the process without free descriptors until it is released.
#[derive(Debug)]
pub(crate) struct TakenDescriptors {
    released: Arc<AtomicBool>,
    thread: JoinHandle<()>,
    former_limit: (u64, u64),
}

impl TakenDescriptors {
    pub(crate) fn take() -> io::Result<Self> {
        let former_limit = rlimit::getrlimit(Resource::NOFILE)?;
        // The new descriptor is the lowest free one; those that are open may have higher numbers.
        let highest = open_descriptors()?.max().unwrap_or_default();
        rlimit::setrlimit(Resource::NOFILE, highest + SPARE, former_limit.1)?;
        let mut taken = free_descriptors();
        let released = Arc::new(AtomicBool::new(false));
        let is_released = Arc::clone(&released);
        let thread = std::thread::spawn(move || {
            while !is_released.load(Ordering::Relaxed) {
                taken.extend(free_descriptors());
                std::thread::sleep(INTERVAL);
            }
        });
        Ok(Self {
            released,
            thread,
            former_limit,
        })
    }

    pub(crate) fn release(self) -> io::Result<()> {
        self.released.store(true, Ordering::Relaxed);
        let (soft, hard) = self.former_limit;
        rlimit::setrlimit(Resource::NOFILE, soft, hard)?;
        let joined = self.thread.join();
        joined.map_err(|_| io::Error::other("the thread that takes descriptors panicked"))
    }
}

/// Takes descriptors until there are none.
fn free_descriptors() -> Vec<File> {
    std::iter::from_fn(|| File::open("/dev/null").ok()).collect()
}

fn open_descriptors() -> io::Result<impl Iterator<Item = u64>> {
    let numbers = std::fs::read_dir("/proc/self/fd")?;
    Ok(numbers.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok()))
}
