//! Property tests: messages round-trip, and independent implementations of the encodings agree.

mod by_serde;
mod compare_json;
mod random_bytes;
mod reshaped;
pub(super) mod strategies;
mod without_copy;
