//! Questions to the handler: what a message says, as events, and the answers as one verdict.

mod arguments;
mod body;
mod fault;
mod headers;
mod judge;
mod text;

pub(crate) use fault::Fault;
pub(crate) use judge::{Complete, Earlier, Judge, Outcome, Scratch};
