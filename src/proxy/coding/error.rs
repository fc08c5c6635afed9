//! Errors of content codings.

/// Error of a body that cannot be decoded.
///
/// An agent that sees encoded bytes cannot judge them, so a proxy that fails closed rejects the
/// message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CodingError {
    /// The header `content-encoding` names a coding that is not known. Without the feature
    /// `codings` none is.
    #[error("the content coding is not one that can be decoded")]
    Unknown,
    /// The header `content-encoding` names several codings.
    #[error("the body has several content codings, of which only one can be decoded")]
    Multiple,
    /// The body is not valid data of its coding, or a checksum is wrong.
    #[error("the encoded body is corrupt")]
    Corrupt,
    /// The decoded body exceeds the limit of its size, or of its ratio to the encoded one.
    #[error("the decoded body exceeds the limit of its size or of its compression ratio")]
    TooLarge,
    /// Decoding takes a larger window than is allowed: 16 MiB for `br`, 8 MiB for `zstd`.
    #[error("decoding the body takes a larger window than the coding allows")]
    WindowTooLarge,
    /// The body ended before the encoded data did.
    #[error("the encoded body is truncated")]
    Truncated,
    /// Bytes follow the end of the encoded data. Receivers differ in what they take them for.
    #[error("bytes follow the end of the encoded body")]
    TrailingData,
}
