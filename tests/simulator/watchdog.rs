//! Ends the process if a simulation makes no progress in real time, as in a loop without a wait.

use std::sync::{Mutex, PoisonError, mpsc};
use std::time::Duration;

/// Longest real time for one seed.
const LIMIT: Duration = Duration::from_secs(120);

/// Runs a simulation while no other one runs in this process, and ends the process with an error if
/// that takes too long. Two at once would not repeat, as they would share tokio's ids of tasks.
pub fn guarded<T>(seed: u64, run: impl FnOnce() -> T) -> T {
    static RUNNING: Mutex<()> = Mutex::new(());
    let _running = RUNNING.lock().unwrap_or_else(PoisonError::into_inner);
    let (done, is_done) = mpsc::channel::<()>();
    std::thread::spawn(move || {
        if let Err(mpsc::RecvTimeoutError::Timeout) = is_done.recv_timeout(LIMIT) {
            eprintln!("seed {seed} makes no progress: virtual time stands still");
            std::process::exit(101);
        }
    });
    let result = run();
    drop(done);
    result
}
