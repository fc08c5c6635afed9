//! Answers to HAProxy: verdicts as variables, within the size of a frame.

mod changes;
mod denial;
mod names;
mod variables;
mod write;

pub use changes::is_changeable;
pub use names::{MAX_ADDED, MAX_VARIABLE_NAME, added_kind, variable_name};
pub(crate) use write::{AckLimits, write_ack};
