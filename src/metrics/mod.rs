//! What is counted.

mod counters;

pub use counters::FaultCounts;
pub(crate) use counters::{Counters, Fault};
