//! The clock of the whole library.
//!
//! The library reads the time only here, so that the simulator (`tests/simulator`) can run it in
//! virtual time. Without the feature `__sim` these functions are those of the standard library.

use std::time::{Duration, Instant, SystemTime};

/// Returns the current time.
#[cfg(not(feature = "__sim"))]
#[inline(always)]
pub(crate) fn now() -> Instant {
    Instant::now()
}

/// Returns the current time of the system's clock, which may jump.
#[cfg(not(feature = "__sim"))]
#[inline(always)]
pub(crate) fn wall() -> SystemTime {
    SystemTime::now()
}

/// Converts a time to one that tokio's timers take.
#[cfg(not(feature = "__sim"))]
#[inline(always)]
pub(crate) fn timer(at: Instant) -> tokio::time::Instant {
    at.into()
}

/// Returns the time that has passed since `then`, zero if that is in the future.
#[inline(always)]
pub(crate) fn elapsed(then: Instant) -> Duration {
    now().saturating_duration_since(then)
}

#[cfg(feature = "__sim")]
pub(crate) use simulated::{now, timer, wall};

#[cfg(feature = "__sim")]
#[path = "../tests/simulator/hooks/clock.rs"]
pub mod simulated;
