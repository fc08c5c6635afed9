use super::answer::Unanswerable;
use crate::connection::link::CloseReason;
use crate::wire::FrameError;
use std::io;

/// Reasons for which a session ends although neither side closed it.
#[derive(Debug, thiserror::Error)]
pub(super) enum SessionError {
    #[error(transparent)]
    Link(io::Error),
    #[error(transparent)]
    Frame(#[from] FrameError),
    #[error("{0}")]
    Unanswerable(#[from] Unanswerable),
}

impl SessionError {
    pub(super) fn close_reason(&self) -> CloseReason {
        match self {
            Self::Frame(FrameError::TooLarge { .. }) => CloseReason::LimitExceeded,
            Self::Link(_) | Self::Frame(_) | Self::Unanswerable(_) => CloseReason::Invalid,
        }
    }
}

/// Links that parse frames themselves return frame errors as the source of an I/O error.
impl From<io::Error> for SessionError {
    fn from(error: io::Error) -> Self {
        match error.get_ref().and_then(|cause| cause.downcast_ref()) {
            Some(&frame) => Self::Frame(frame),
            None => Self::Link(error),
        }
    }
}
