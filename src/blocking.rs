//! Work that may block its thread.
//!
//! With the feature `__sim` a simulation, which has one thread, does it in a task.

/// Runs work on a thread where it may block.
#[cfg(not(feature = "__sim"))]
pub(crate) fn spawn(work: impl FnOnce() + Send + 'static) {
    tokio::task::spawn_blocking(work);
}

#[cfg(feature = "__sim")]
pub(crate) fn spawn(work: impl FnOnce() + Send + 'static) {
    use std::time::Duration;

    /// Longest virtual time until the work is done, in milliseconds.
    const MAX_DELAY_MS: u64 = 50;

    if !crate::clock::simulated::is_active() {
        tokio::task::spawn_blocking(work);
        return;
    }
    let delay = Duration::from_millis(fastrand::u64(..=MAX_DELAY_MS));
    tokio::spawn(async move {
        tokio::time::sleep(delay).await;
        work();
    });
}
