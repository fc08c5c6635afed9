//! Header maps, and the sources of the headers of borrowed events.
//!
//! * [`HeaderSource`] is the trait through which a borrowed event reads its headers. It is
//!   implemented for maps, slices of pairs, `http::HeaderMap` and the headers in a received frame.
//! * [`OptimizedHeaderMap`] and [`CowHeaderMap`] are the maps of `zentinel-agent-protocol` that
//!   save allocations: a single value per name is stored inline, and common names are static
//!   strings.
//! * [`HeadersRef`] and [`HeadersCow`] are views of a `HashMap<String, Vec<String>>`, the form that
//!   owned events use. The first never copies the map, the second copies it on the first change.

mod borrowed;
#[cfg(feature = "http")]
mod http_map;
mod maps;
pub mod names;
mod source;
mod value;

pub use borrowed::{HeaderIterator, HeadersCow, HeadersRef};
pub use maps::{
    CowHeaderMap, CowHeaderName, HeaderValues, OptimizedHeaderMap, from_cow_optimized,
    from_optimized, iter_flat, iter_flat_cow, iter_flat_optimized, to_cow_optimized, to_optimized,
};
pub use names::intern_header_name;
pub use source::HeaderSource;
pub(crate) use source::to_map;
pub use value::{FieldValue, bytes_of_latin1};
