use super::answer::FatalEvent;
use crate::connection::link::{CloseReason, LinkError};
use crate::wire::FrameError;

/// Reasons for which a session ends although neither side closed it.
#[derive(Debug, thiserror::Error)]
pub(super) enum SessionError {
    #[error(transparent)]
    Link(LinkError),
    #[error(transparent)]
    Frame(#[from] FrameError),
    #[error(transparent)]
    Event(#[from] FatalEvent),
    #[error("a frame stayed incomplete for too long")]
    StalledFrame,
    #[error("the server's memory limit is exceeded, and this connection holds most")]
    OverMemory,
    #[error("the proxy is gone")]
    PeerGone,
}

impl SessionError {
    pub(super) fn close_reason(&self) -> CloseReason {
        match self {
            Self::Frame(FrameError::TooLarge { .. }) | Self::OverMemory => {
                CloseReason::LimitExceeded
            }
            Self::Event(FatalEvent::SettingsRejected(_)) => CloseReason::SettingsRejected,
            Self::Link(_)
            | Self::Frame(_)
            | Self::Event(FatalEvent::Unanswerable(_))
            | Self::StalledFrame
            | Self::PeerGone => CloseReason::Invalid,
        }
    }
}

impl From<LinkError> for SessionError {
    fn from(error: LinkError) -> Self {
        match error {
            LinkError::Frame(frame) => Self::Frame(frame),
            other => Self::Link(other),
        }
    }
}
