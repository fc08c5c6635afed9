use crate::wire::FrameError;
use std::fmt::Display;
use std::io;

/// Why no more can be received.
#[derive(Debug, thiserror::Error)]
pub(super) enum ReceiveError {
    #[error(transparent)]
    Link(io::Error),
    #[error("{}", ended_text(*in_frame))]
    Ended { in_frame: bool },
    #[error("{0}")]
    Frame(#[from] FrameError),
}

fn ended_text(in_frame: bool) -> impl Display {
    if in_frame {
        "closed by the agent in the middle of a frame"
    } else {
        "closed by the agent"
    }
}

/// A link that checks frames itself reports an invalid one as the cause of an I/O error.
impl From<io::Error> for ReceiveError {
    fn from(error: io::Error) -> Self {
        match error.get_ref().and_then(|cause| cause.downcast_ref()) {
            Some(&frame) => Self::Frame(frame),
            None => Self::Link(error),
        }
    }
}
