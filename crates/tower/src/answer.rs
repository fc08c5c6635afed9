//! Errors of bodies.

/// Error of the bodies that the layer makes.
pub type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// Error of a body that ends early because the request was rejected.
#[derive(Debug, Clone, Copy, thiserror::Error)]
#[error("agents did not allow the rest of the message")]
pub(crate) struct NotAllowed;
