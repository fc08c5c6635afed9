//! Work that may block its thread.
//!
//! With the feature `__sim` a simulation, which has one thread, does it in a task.

use tokio::runtime::{Handle, RuntimeFlavor};

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

/// Runs work that takes long on this thread. Other tasks move to another thread meanwhile, if the
/// runtime has several.
pub(crate) fn in_place<T>(work: impl FnOnce() -> T) -> T {
    let has_several_threads = Handle::try_current()
        .is_ok_and(|runtime| runtime.runtime_flavor() == RuntimeFlavor::MultiThread);
    if has_several_threads {
        tokio::task::block_in_place(work)
    } else {
        work()
    }
}
