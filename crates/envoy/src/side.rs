//! The two messages of an HTTP exchange.

/// A request or its response.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Side {
    Request,
    Response,
}
