use super::call::PendingCall;
use super::refusal::Refusal;
use super::time_limit::TimeLimit;
use super::turnstile::Turnstile;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::Notify;
use tokio::time::timeout_at;

/// Where calls wait that an agent, or one connection, cannot take yet.
#[derive(Debug, Default)]
pub(crate) struct Lines {
    /// For a free slot.
    pub(crate) room: Arc<Turnstile>,
    /// For the end of a pause.
    resumed: Turnstile,
    /// For the end of a pause of one exchange. These are not in line: none stands in another's way.
    exchange_resumed: Notify,
}

/// What waiting is allowed.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Patience {
    /// Calls that may wait for a slot.
    pub(crate) max_queued: usize,
    /// How long a call waits for a slot.
    pub(crate) queue_timeout: Duration,
    /// How long a call waits for the end of a pause; not at all where it is zero.
    pub(crate) pause_timeout: Duration,
}

impl Lines {
    /// Has those look again who wait for the end of a pause.
    pub(crate) fn resume(&self) {
        self.resumed.made_room();
        self.exchange_resumed.notify_waiters();
    }

    /// Has everybody look again.
    pub(crate) fn wake(&self) {
        self.room.made_room();
        self.resume();
    }

    /// Opens a call by `attempt`, waiting in line as long as it finds no slot or a pause.
    pub(crate) async fn open_call(
        &self,
        patience: Patience,
        limit: TimeLimit,
        mut attempt: impl FnMut() -> Result<PendingCall, Refusal>,
    ) -> Result<PendingCall, Refusal> {
        let (queue_end, pause_end) = (
            Wait::until(limit, patience.queue_timeout, Refusal::QueueTimedOut),
            Wait::until(limit, patience.pause_timeout, Refusal::Paused),
        );
        let mut opened = self.in_turn(&mut attempt);
        loop {
            opened = match opened {
                Err(Refusal::Full) if self.room.waiting() >= patience.max_queued => {
                    return Err(Refusal::QueueFull);
                }
                Err(Refusal::Full) => {
                    let passed = self.room.pass(|| unless(Refusal::Full, &mut attempt));
                    queue_end.bound(passed).await?
                }
                Err(Refusal::Paused | Refusal::ExchangePaused)
                    if patience.pause_timeout.is_zero() =>
                {
                    return Err(Refusal::Paused);
                }
                Err(Refusal::Paused) => {
                    let passed = self.resumed.pass(|| unless(Refusal::Paused, &mut attempt));
                    pause_end.bound(passed).await?
                }
                Err(Refusal::ExchangePaused) => {
                    let mut resumed = std::pin::pin!(self.exchange_resumed.notified());
                    // From here on no resumption is missed.
                    resumed.as_mut().enable();
                    match unless(Refusal::ExchangePaused, &mut attempt) {
                        Some(opened) => opened,
                        None => {
                            pause_end.bound(resumed).await?;
                            attempt()
                        }
                    }
                }
                opened => return opened,
            };
        }
    }

    /// Attempts at once if nobody waits, so that nobody is overtaken.
    pub(crate) fn in_turn(
        &self,
        attempt: &mut impl FnMut() -> Result<PendingCall, Refusal>,
    ) -> Result<PendingCall, Refusal> {
        if self.room.waiting() > 0 {
            Err(Refusal::Full)
        } else if self.resumed.waiting() > 0 {
            Err(Refusal::Paused)
        } else {
            attempt()
        }
    }
}

/// `None` where the attempt meets the obstacle that is waited for.
fn unless(
    obstacle: Refusal,
    attempt: &mut impl FnMut() -> Result<PendingCall, Refusal>,
) -> Option<Result<PendingCall, Refusal>> {
    match attempt() {
        Err(refusal) if refusal == obstacle => None,
        opened => Some(opened),
    }
}

/// How long is waited for one thing, and what it means when that is over.
struct Wait {
    end: Instant,
    refusal: Refusal,
}

impl Wait {
    /// Waits for `patience`, unless the whole call is over before.
    fn until(limit: TimeLimit, patience: Duration, refusal: Refusal) -> Self {
        let deadline = limit.deadline();
        match Instant::now().checked_add(patience) {
            Some(end) if end < deadline => Self { end, refusal },
            _ => Self {
                end: deadline,
                refusal: Refusal::TimedOut,
            },
        }
    }

    async fn bound<T>(&self, waiting: impl Future<Output = T>) -> Result<T, Refusal> {
        timeout_at(self.end.into(), waiting)
            .await
            .map_err(|_| self.refusal)
    }
}
