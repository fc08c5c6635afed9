//! Header maps and where the headers of borrowed events come from.
//!
//! * [`HeaderSource`] is what a borrowed event takes its headers from: a map, a slice of pairs, an
//!   `http::HeaderMap`, a received frame.
//! * [`OptimizedHeaderMap`] and [`CowHeaderMap`] are the published API's maps that save allocations: one value
//!   per name stays inline, and names that everybody uses are not stored at all.
//! * [`HeadersRef`] and [`HeadersCow`] look into a map of the published form without copying it, or copy it
//!   only once it is changed.

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
