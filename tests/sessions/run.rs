//! Runs one input in virtual time, and checks what every input has to keep.
//!
//! The sockets are real, and the other side of each is in the same thread. Tokio's clock is paused
//! and advances only while all tasks wait. A task that sleeps for a millisecond again and again
//! limits the advance, so that what was sent arrives within a millisecond of virtual time.

use crate::panics;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, Once, PoisonError};
use std::time::{Duration, SystemTime};
use tokio::runtime::{Builder, Handle, Runtime};
use tokio::time::{sleep, timeout};
use tollgate::sim::{self, clock};

/// Result of a check. The error says what is wrong.
pub type Checked<T = ()> = Result<T, String>;

/// Largest number of bytes allocated at a time while an input runs, on both sides together.
const MAX_PEAK: u64 = 16 * 1024 * 1024;

/// Largest number of bytes still allocated after an input. What the process keeps for later
/// inputs, such as spare capacity of tokio's, is less.
const MAX_LEFT: i64 = 256 * 1024;

/// Longest virtual time of one input.
const MAX_TIME: Duration = Duration::from_secs(120);

/// Longest real time of one input. Virtual time stands still in a loop without a wait.
const MAX_REAL_TIME: Duration = Duration::from_secs(40);

/// Number of inputs that have begun.
static BEGUN: AtomicU64 = AtomicU64::new(0);

/// Descriptors of the process and memory of its threads are counted, so inputs run one at a time.
static TURN: Mutex<()> = Mutex::new(());

/// The input that runs.
static CURRENT: Mutex<Vec<u8>> = Mutex::new(Vec::new());

/// Runs an input, and panics if a check fails.
pub fn run(input: &[u8], work: impl Future<Output = Checked>) {
    let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    // Here, since bolero replaces hooks that were set before it begins.
    panics::watch();
    start_watchdog();
    BEGUN.fetch_add(1, Ordering::Relaxed);
    *CURRENT.lock().unwrap_or_else(PoisonError::into_inner) = input.to_vec();
    // Otherwise the descriptors that the process keeps would count as left over.
    static WARM: Once = Once::new();
    WARM.call_once(|| in_virtual_time(async { Ok(()) }).expect("nothing can fail"));
    let descriptors = open_descriptors();
    let mut checked = Ok(());
    let allocated = allocation_counter::measure(|| checked = in_virtual_time(work));
    let checked = checked.and_then(|()| {
        if allocated.bytes_max > MAX_PEAK {
            return Err(format!("{} bytes at a time", allocated.bytes_max));
        }
        if allocated.bytes_current > MAX_LEFT {
            return Err(format!("{} bytes are left", allocated.bytes_current));
        }
        let now = open_descriptors();
        if now > descriptors {
            return Err(format!("{descriptors} descriptors before and {now} after"));
        }
        Ok(())
    });
    if let Err(text) = checked {
        panic!("{text}");
    }
}

/// Runs `work` on a new runtime in virtual time.
pub fn in_virtual_time<T>(work: impl Future<Output = Checked<T>>) -> Checked<T> {
    sim::reset();
    panics::take();
    fastrand::seed(1);
    clock::start(SystemTime::UNIX_EPOCH + Duration::from_secs(1_700_000_000));
    let runtime = runtime();
    let worked = catch_unwind(AssertUnwindSafe(|| {
        runtime.block_on(async {
            clock::enter(Duration::ZERO);
            tokio::spawn(async {
                loop {
                    sleep(Duration::from_millis(1)).await;
                }
            });
            let worked = timeout(MAX_TIME, work).await;
            worked.unwrap_or_else(|_| Err("the input takes too long".to_owned()))
        })
    }));
    clock::leave(MAX_TIME);
    drop(runtime);
    clock::stop();
    let worked = worked.unwrap_or_else(|_| Err("a check panicked".to_owned()));
    // A panic is the cause of whatever else failed.
    panics::take().map_or(worked, Err)
}

fn runtime() -> Runtime {
    Builder::new_current_thread()
        .enable_all()
        .start_paused(true)
        .build()
        .expect("a runtime")
}

/// Waits for a condition, and fails if it does not hold within the time.
pub async fn eventually(
    what: &str,
    limit: Duration,
    mut holds: impl AsyncFnMut() -> bool,
) -> Checked {
    let waiting = async {
        while !holds().await {
            sleep(Duration::from_millis(1)).await;
        }
    };
    let waited = timeout(limit, waiting).await;
    waited.map_err(|_| format!("not within {limit:?}: {what}"))
}

/// Waits until no task is left except the one that limits the advance of the clock.
pub async fn no_task_is_left() -> Checked {
    let tasks = || Handle::current().metrics().num_alive_tasks();
    let ended = eventually("all tasks end", Duration::from_secs(2), async || {
        tasks() == 1
    });
    ended
        .await
        .map_err(|text| format!("{text}, {} are left", tasks() - 1))
}

fn open_descriptors() -> usize {
    std::fs::read_dir("/proc/self/fd").map_or(0, Iterator::count)
}

/// Ends the process if an input makes no progress.
fn start_watchdog() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        std::thread::spawn(|| {
            let mut last = 0;
            loop {
                std::thread::sleep(MAX_REAL_TIME);
                let begun = BEGUN.load(Ordering::Relaxed);
                if begun == last && TURN.try_lock().is_err() {
                    let input = CURRENT.lock().unwrap_or_else(PoisonError::into_inner);
                    eprintln!("virtual time stands still in input {begun}: {input:?}");
                    std::process::abort();
                }
                last = begun;
            }
        });
    });
}
