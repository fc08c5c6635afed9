//! Ends the process if a simulation makes no progress in real time, as in a loop without a wait.

use std::sync::mpsc;
use std::time::Duration;

/// Longest real time for one seed.
const LIMIT: Duration = Duration::from_secs(120);

/// Runs a simulation, and ends the process with an error if that takes too long.
pub fn guarded<T>(seed: u64, run: impl FnOnce() -> T) -> T {
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
