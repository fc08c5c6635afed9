//! Errors, by the operation that fails.
//!
//! The text of an error is complete: it contains that of its [source](std::error::Error::source).
//! Those of a pool's and a server's operations ([`CallError`], [`AddError`], [`BindError`],
//! [`AcceptError`]) have a `kind`, a stable name for logs and labels, and `is_retryable`.

mod add;
mod call;
mod connect;
mod endpoint;
mod listen;

pub use crate::wire::{DecodeError, DecodeErrorKind, UnknownEncoding};
pub use add::{AddError, UnknownAgent};
pub use call::CallError;
pub use connect::ConnectError;
#[cfg(feature = "tls")]
pub use connect::TlsFailure;
pub use endpoint::InvalidEndpoint;
pub use listen::{AcceptError, BindError, InvalidTls, RegistrationError};
