use super::answer::Unanswerable;
use crate::connection::link::Why;
use crate::wire::FrameError;
use std::io;

/// Why a session ended other than by either side's wish.
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
    pub(super) fn why(&self) -> Why {
        match self {
            Self::Frame(FrameError::TooLarge { .. }) => Why::TooMuch,
            Self::Link(_) | Self::Frame(_) | Self::Unanswerable(_) => Why::Invalid,
        }
    }
}

/// Links that look at frames themselves say what is wrong with one as the cause of their error.
impl From<io::Error> for SessionError {
    fn from(error: io::Error) -> Self {
        match error.get_ref().and_then(|cause| cause.downcast_ref()) {
            Some(&frame) => Self::Frame(frame),
            None => Self::Link(error),
        }
    }
}
