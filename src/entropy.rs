//! Seeds of hashes, and random numbers that make names unique.
//!
//! With the feature `__sim` they are the same in every run, so that a simulation can be repeated.

#[cfg(feature = "__sim")]
pub(crate) use foldhash::fast::FixedState as RandomState;
#[cfg(not(feature = "__sim"))]
pub(crate) use foldhash::fast::RandomState;

/// Returns a number that differs between processes and between calls.
pub(crate) fn unique() -> u64 {
    #[cfg(feature = "__sim")]
    if crate::clock::simulated::is_active() {
        return fastrand::u64(..);
    }
    use std::hash::BuildHasher;
    std::hash::RandomState::new().hash_one(())
}

/// Returns the id of this process.
pub(crate) fn process_id() -> u32 {
    #[cfg(feature = "__sim")]
    if crate::clock::simulated::is_active() {
        return 1;
    }
    std::process::id()
}
