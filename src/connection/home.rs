use tokio::runtime::{Handle, Id};

/// The runtime that serves a connection, or that a caller is on. Where a number comes again, the runtime that had it before
/// has ended, and its connections with it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Home(Id);

impl Home {
    pub(crate) fn of(runtime: &Handle) -> Self {
        Self(runtime.id())
    }

    /// `None` outside of a runtime.
    pub(crate) fn current() -> Option<Self> {
        Handle::try_current().ok().as_ref().map(Self::of)
    }
}
