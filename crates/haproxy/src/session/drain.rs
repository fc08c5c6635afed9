//! The end of a session that has to leave: when its connection is silent.

use futures_util::FutureExt;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::time::{Instant, Sleep, sleep_until};
use tollgate::listener::OtherSession;

/// Silence after which a connection is left. HAProxy asks about a response as soon as it has the
/// answer about its request, and a question that crosses the end of the connection is lost.
const SILENCE: Duration = Duration::from_millis(20);

/// Silence that is waited for on a connection that is never silent for longer.
const SHORT_SILENCE: Duration = Duration::from_millis(2);

/// Time after which a shorter silence has to do, and time after which none is waited for.
const BUSY: [Duration; 2] = [Duration::from_secs(5), Duration::from_secs(10)];

/// Returns whether a session has to leave already.
pub(super) fn is_leaving(session: &OtherSession) -> bool {
    session.leaving().now_or_never().is_some()
}

/// The silence before a session leaves.
#[derive(Default)]
pub(super) struct Silence {
    /// Set once the session has to leave.
    leaving_since: Option<Instant>,
    last_heard: Option<Instant>,
    timer: Option<Pin<Box<Sleep>>>,
}

impl Silence {
    /// Begins to wait for silence.
    pub(super) fn begin(&mut self) {
        let now = Instant::now();
        self.leaving_since.get_or_insert(now);
        self.last_heard = Some(now);
    }

    pub(super) fn is_awaited(&self) -> bool {
        self.leaving_since.is_some()
    }

    /// Records that something was heard or said.
    pub(super) fn interrupt(&mut self) {
        if self.is_awaited() {
            self.last_heard = Some(Instant::now());
        }
    }

    /// Polls whether it was silent for long enough. To be called while nothing is open.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let (Some(since), Some(heard)) = (self.leaving_since, self.last_heard) else {
            return Poll::Pending;
        };
        let wanted = match since.elapsed() {
            busy if busy < BUSY[0] => SILENCE,
            busy if busy < BUSY[1] => SHORT_SILENCE,
            _ => return Poll::Ready(()),
        };
        let until = heard + wanted;
        let timer = self
            .timer
            .get_or_insert_with(|| Box::pin(sleep_until(until)));
        if timer.deadline() != until {
            timer.as_mut().reset(until);
        }
        timer.as_mut().poll(cx)
    }
}
