//! What is written reads back the same, and other implementations read it too.

mod by_serde;
mod garbage;
mod json_oddities;
mod reshaped;
pub(super) mod strategies;
mod without_copy;
