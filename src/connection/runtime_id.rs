use tokio::runtime::{Handle, Id};

/// Identity of the Tokio runtime that a connection or a caller runs on.
///
/// Ids may be reused, but only after the earlier runtime has shut down, and its connections with
/// it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct RuntimeId(Id);

impl RuntimeId {
    pub(crate) fn of(runtime: &Handle) -> Self {
        Self(runtime.id())
    }

    /// Returns the runtime of the caller, or `None` outside of a runtime.
    pub(crate) fn current() -> Option<Self> {
        Handle::try_current().ok().as_ref().map(Self::of)
    }
}
