use crate::wire::FrameError;
use std::fmt::Display;

/// Why no more can be received.
#[derive(Debug, thiserror::Error)]
pub(super) enum Lost {
    #[error(transparent)]
    Link(#[from] std::io::Error),
    #[error("{}", ended(*in_frame))]
    Ended { in_frame: bool },
    #[error("{0}")]
    Frame(FrameError),
}

fn ended(in_frame: bool) -> impl Display {
    if in_frame {
        "closed by the agent in the middle of a frame"
    } else {
        "closed by the agent"
    }
}
