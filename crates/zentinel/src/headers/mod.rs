//! Header maps, views of them, and the trait through which borrowed events read headers.
//!
//! * [`HeaderSource`] and [`FieldValue`] are tollgate's.
//! * [`OptimizedHeaderMap`] and [`CowHeaderMap`] are maps that save allocations: a single value per
//!   name is stored inline, and common [`names`] are static strings.
//! * [`HeadersRef`] and [`HeadersCow`] are views of a `HashMap<String, Vec<String>>`, the form that
//!   owned events use. The first never copies the map, the second copies it on the first change.

mod borrowed;
mod maps;
pub mod names;

pub use borrowed::{HeaderIterator, HeadersCow, HeadersRef};
pub use maps::{
    CowHeaderMap, CowHeaderName, HeaderValues, OptimizedHeaderMap, from_cow_optimized,
    from_optimized, iter_flat, iter_flat_cow, iter_flat_optimized, to_cow_optimized, to_optimized,
};
pub use names::intern_header_name;
pub use tollgate::headers::{FieldValue, HeaderSource, bytes_of_latin1};
