use super::link::LinkError;
use crate::wire::FrameError;
use std::fmt::Display;

/// Why no more can be received.
#[derive(Debug, thiserror::Error)]
pub(super) enum ReceiveError {
    #[error(transparent)]
    Link(LinkError),
    #[error("{}", ended_text(*in_frame))]
    Ended { in_frame: bool },
    #[error(transparent)]
    Frame(#[from] FrameError),
    #[error("a frame stayed incomplete for too long")]
    Stalled,
}

fn ended_text(in_frame: bool) -> impl Display {
    if in_frame {
        "closed by the agent in the middle of a frame"
    } else {
        "closed by the agent"
    }
}

impl From<LinkError> for ReceiveError {
    fn from(error: LinkError) -> Self {
        match error {
            LinkError::Frame(frame) => Self::Frame(frame),
            other => Self::Link(other),
        }
    }
}
