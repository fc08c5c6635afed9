//! The sources of the headers of borrowed events, header values and common header names.

#[cfg(feature = "http")]
mod http_map;
pub mod names;
mod source;
mod value;

pub use names::intern_header_name;
pub use source::HeaderSource;
pub(crate) use source::to_map;
pub use value::{FieldValue, bytes_of_latin1};
