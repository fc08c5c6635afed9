//! Detects peers that begin a frame and do not go on.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::time::{Instant, Sleep, sleep_until};

/// Least number of bytes that an incomplete frame has to grow by in each period.
const MIN_PROGRESS: u64 = 64 * 1024;

/// Ends connections on which a frame stays incomplete.
///
/// A frame has to be complete, or to have grown by [`MIN_PROGRESS`], one period after it was first
/// found to be incomplete, and again after each further period. The timer is started at most once
/// in a period, whatever is received, so frames that arrive in pieces cost almost nothing.
#[derive(Debug)]
pub(crate) struct FrameTimer {
    period: Duration,
    /// Frames received so far.
    frames: u64,
    /// Bytes received so far.
    bytes: u64,
    /// `frames` and `bytes` at the start of the period; `None` while the timer does not run.
    started_at: Option<(u64, u64)>,
    sleep: Option<Pin<Box<Sleep>>>,
}

impl FrameTimer {
    pub(crate) fn new(period: Duration) -> Self {
        Self {
            period,
            frames: 0,
            bytes: 0,
            started_at: None,
            sleep: None,
        }
    }

    /// Records a complete frame.
    pub(crate) fn note_frame(&mut self) {
        self.frames += 1;
    }

    /// Records received bytes.
    pub(crate) fn note_received(&mut self, bytes: usize) {
        self.bytes += bytes as u64;
    }

    /// Returns whether the incomplete frame made too little progress. Called when all received
    /// bytes were handled and an incomplete frame is left.
    pub(crate) fn poll_stalled(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        loop {
            let Some((frames, bytes)) = self.started_at else {
                self.start();
                continue;
            };
            let Some(sleep) = &mut self.sleep else {
                return Poll::Pending;
            };
            if sleep.as_mut().poll(cx).is_pending() {
                return Poll::Pending;
            }
            if self.frames == frames && self.bytes - bytes < MIN_PROGRESS {
                return Poll::Ready(());
            }
            self.started_at = None;
        }
    }

    /// Starts a period.
    fn start(&mut self) {
        self.started_at = Some((self.frames, self.bytes));
        let end = Instant::now() + self.period;
        match &mut self.sleep {
            Some(sleep) => sleep.as_mut().reset(end),
            none => *none = Some(Box::pin(sleep_until(end))),
        }
    }
}

#[cfg(all(test, not(tollgate_loom)))]
#[path = "../../tests/unit/connection/frame_timer.rs"]
mod tests;
