//! The sources of the headers of borrowed events, and header values.

#[cfg(feature = "http")]
mod http_map;
mod source;
mod value;

pub use source::HeaderSource;
pub(crate) use source::{group, to_map};
pub use value::{FieldValue, bytes_of_latin1};
