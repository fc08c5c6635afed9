//! Content codings: decodes compressed bodies, so that agents see what the receiver will see.
//!
//! With the feature `codings`, bodies whose `content-encoding` names one of `gzip`, `deflate`, `br`
//! and `zstd` are decoded. Without it every coding counts as unknown. Bodies with several codings
//! are not decoded.
//!
//! Decoding is incremental: [`BodyDecoder::push`] puts out all that can be decoded of the bytes so
//! far. A stream whose sender flushes its encoder is not delayed.
//!
//! # Limits
//!
//! * [`DecodeLimits::max_size`] bounds the decoded bytes of a body.
//! * [`DecodeLimits::max_ratio`] bounds how many times longer the decoded bytes are than the
//!   encoded ones. It is checked all along the body, from 64 KiB of decoded bytes on, as a short
//!   body may well be compressed more.
//!
//! The limits are checked for each 16 KiB of decoded bytes, before these are put out. So a body
//! that expands to gigabytes costs no more memory and time than the limits allow.
//!
//! A decoder's own memory is bounded as well: some 45 KiB for `gzip` and `deflate`, the window of
//! 16 MiB and its tables for `br`, and 8 MiB and the tables for `zstd`, as RFC 9659 demands.
//! Decoders of `br` and `zstd` take as much as the body needs, and none takes any before the first
//! byte. Bodies with larger windows fail.
//!
//! # One reading
//!
//! Receivers differ in what they make of bytes after the end of the encoded data. A body with such
//! bytes fails, since otherwise the receiver could see other data than the agents. `gzip` may have
//! several members, as RFC 1952 says. `zstd` may have one frame, since some receivers ignore the
//! others.

#[cfg(not(feature = "codings"))]
mod absent;
#[cfg(feature = "codings")]
mod brotli;
#[cfg(feature = "codings")]
mod decoder;
#[cfg(feature = "codings")]
mod deflate;
mod error;
#[cfg(feature = "codings")]
mod gzip;
mod header;
mod limits;
#[cfg(feature = "codings")]
mod zstd;

#[cfg(not(feature = "codings"))]
pub(crate) use absent::{BodyDecoder, Coding};
#[cfg(feature = "codings")]
pub(crate) use decoder::{BodyDecoder, Coding};
pub use error::CodingError;
pub(crate) use header::content_coding;
pub(crate) use limits::DecodeLimits;

/// Bytes that one step of a decoder has read and written.
#[cfg(feature = "codings")]
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Step {
    read: usize,
    written: usize,
}
