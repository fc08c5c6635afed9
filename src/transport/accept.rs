//! Accepting connections, also when the process has no free file descriptor.

use super::handshake_limiter::SharedLimiter;
use crate::lock::lock;
use crate::log::{NO_PEER, log_line};
use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::time::{sleep, timeout};

/// Delay before a listener accepts again after an error that may last.
const ACCEPT_RETRY_DELAY: Duration = Duration::from_millis(50);

/// Error numbers of a process, and of a system, that has as many open files as it may have. They
/// are the same on all Unix systems.
const EMFILE: i32 = 24;
const ENFILE: i32 = 23;

/// Repeats `attempt` until it succeeds.
///
/// Connections of `limiter` that were evicted for newer ones are closed before that. Otherwise a
/// busy process might accept connections faster than it closes them.
///
/// If there is no free file descriptor, a connection of `limiter` is closed, so that connections
/// that never complete their handshake do not keep others out.
pub(crate) async fn accept<T, F: Future<Output = io::Result<T>>>(
    limiter: &SharedLimiter,
    attempt: impl Fn() -> F,
) -> T {
    let evicted = lock(limiter).evicted();
    if let Some(closed) = evicted {
        wait_briefly(closed).await;
    }
    loop {
        match attempt().await {
            Ok(accepted) => return accepted,
            Err(error) if is_out_of_descriptors(&error) => free_descriptor(limiter).await,
            Err(error) => {
                log_line!(warn, NO_PEER, { error }, "could not accept a connection");
                sleep(ACCEPT_RETRY_DELAY).await;
            }
        }
    }
}

fn is_out_of_descriptors(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(EMFILE | ENFILE))
}

/// Closes a connection that has not completed its handshake, or waits if there is none.
async fn free_descriptor(limiter: &SharedLimiter) {
    static COUNT: AtomicU64 = AtomicU64::new(0);
    let released = lock(limiter).evict_one();
    let count = COUNT.fetch_add(1, Ordering::Relaxed) + 1;
    if count.is_power_of_two() {
        let outcome = if released.is_some() {
            "closed the oldest connection that has not completed its handshake"
        } else {
            "connections wait to be accepted"
        };
        log_line!(
            warn,
            NO_PEER,
            {}(count),
            "no more open files are allowed: {outcome}; raise the limit (`ulimit -n`)"
        );
    }
    match released {
        Some(released) => wait_briefly(released).await,
        None => sleep(ACCEPT_RETRY_DELAY).await,
    }
}

/// Waits until connections are closed. One that is slow to close must not keep the listener from
/// accepting.
async fn wait_briefly(closed: impl Future<Output = ()>) {
    let _ = timeout(ACCEPT_RETRY_DELAY, closed).await;
}

#[cfg(test)]
#[path = "../../tests/unit/transport/accept.rs"]
mod tests;
