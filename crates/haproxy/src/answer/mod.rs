//! Answers to HAProxy: verdicts as variables, within the size of a frame.

mod changes;
mod denial;
mod names;
mod variables;
mod write;

pub use names::{MAX_VARIABLE_NAME, variable_name};
pub(crate) use write::{AckLimits, write_ack};
