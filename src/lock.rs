//! Locks.

use std::sync::{Mutex, MutexGuard, PoisonError};

/// Locks a mutex that is held for short, non-blocking sections, none of which can panic halfway
/// through a change, or lose more by it than a series of metrics. So a poisoned one is usable.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
