//! Admission of calls: opening one now, or waiting for a slot or for the end of a pause.
//!
//! The first attempt runs against the current snapshot and waits for nothing. Only if that fails
//! for a reason that may pass does the call go to the wait queues, from where every further attempt
//! loads the snapshot again.

use super::call::{CallParams, CallResult, NoAnswer, Opened};
use super::member::Member;
use crate::clock;
use crate::connection::{
    AdmissionQueues, Binding, CallEnd, Connection, PendingCall, SharedState, TimeLimit,
};
use crate::metrics::CallCounter;
use std::pin::pin;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::time::timeout_at;

impl Member {
    /// Opens a call, and waits for that if necessary: on the connection that its exchange is bound
    /// to or, if there is none, on any connection of the agent.
    pub(super) async fn open(
        self: &Arc<Self>,
        bound_to: Option<&Arc<Connection>>,
        params: CallParams<'_>,
    ) -> CallResult {
        if bound_to.is_none()
            && let Some(error) = self.gone()
        {
            return Err(NoAnswer::Failed(error));
        }
        let opening = Opening {
            agent: self,
            bound_to,
            params,
        };
        let state = opening.state();
        state.calls.made();
        let opened = match opening.try_open() {
            Err(awaited @ (CallEnd::Full | CallEnd::Paused | CallEnd::ExchangePaused)) => {
                // Exactly one end has to be counted for a call that was made. If the caller drops
                // this future while it waits, only the guard counts the end. If the wait returns,
                // the guard is forgotten: the end of an opened call is counted by `PendingCall`,
                // and that of any other by `resolve_not_opened`.
                let guard = WaitGuard(state);
                let opened = opening.wait(awaited).await;
                std::mem::forget(guard);
                opened.map(PendingCall::after_waiting)
            }
            opened => opened,
        };
        opened.map_err(|not_opened| self.resolve_not_opened(state, not_opened, params))
    }
}

/// A call that is to be opened.
#[derive(Debug, Clone, Copy)]
struct Opening<'a> {
    agent: &'a Arc<Member>,
    /// Connection of the call's exchange; `None` if any connection may take the call.
    bound_to: Option<&'a Arc<Connection>>,
    params: CallParams<'a>,
}

impl<'a> Opening<'a> {
    /// Makes one attempt, unless it would overtake a call that waits already.
    fn try_open(&self) -> Opened {
        let queues = self.queues();
        if queues.free_slot.waiting() > 0 {
            Err(CallEnd::Full)
        } else if queues.resumed.waiting() > 0 {
            Err(CallEnd::Paused)
        } else {
            self.attempt()
        }
    }

    fn attempt(&self) -> Opened {
        match self.bound_to {
            Some(connection) => self.agent.open_on(connection, Binding::Bound, self.params),
            None => self.agent.open_now(self.params),
        }
    }

    /// Waits until the call is opened, or is not for a reason that waiting does not remove. The
    /// reason so far is `awaited`.
    ///
    /// The reason may change: a freed slot, for example, may belong to a connection that was paused
    /// meanwhile. The call then moves on to the queue for the new reason. Both deadlines are fixed
    /// at the start, so moving between queues does not prolong the wait.
    async fn wait(&self, mut awaited: CallEnd) -> Opened {
        let (config, queues, limit) = (&self.agent.config, self.queues(), self.params.limit);
        let pause_timeout = config.pause_timeout();
        let after = config.queue_timeout;
        let queue_end = WaitDeadline::new(limit, after, CallEnd::QueueTimedOut { after });
        let pause_end = WaitDeadline::new(limit, pause_timeout, CallEnd::Paused);
        loop {
            let (queue, end) = match awaited {
                CallEnd::Full if queues.free_slot.waiting() >= config.max_queued_calls => {
                    return Err(CallEnd::QueueFull);
                }
                CallEnd::Full => (&*queues.free_slot, &queue_end),
                CallEnd::Paused | CallEnd::ExchangePaused if pause_timeout.is_zero() => {
                    return Err(CallEnd::Paused);
                }
                CallEnd::Paused => (&queues.resumed, &pause_end),
                CallEnd::ExchangePaused => {
                    let mut resumed = pin!(queues.exchange_resumed.notified());
                    // `notify_waiters` wakes only those that are registered. Registering before the
                    // attempt keeps a resumption in between from being missed.
                    resumed.as_mut().enable();
                    match self.attempt() {
                        Err(CallEnd::ExchangePaused) => pause_end.apply(resumed).await?,
                        Err(not_opened) => awaited = not_opened,
                        opened => return opened,
                    }
                    continue;
                }
                not_opened => return Err(not_opened),
            };
            let mut waiter = queue.join();
            awaited = loop {
                end.apply(waiter.turn()).await?;
                match self.attempt() {
                    Err(not_opened) if not_opened == awaited => {}
                    Err(not_opened) => break not_opened,
                    opened => return opened,
                }
            };
        }
    }

    /// Returns the state of the agent that counts the call.
    fn state(&self) -> &'a SharedState {
        match self.bound_to {
            // Not that of this member: the agent may have been removed and added again since the
            // exchange began.
            Some(connection) => &connection.agent,
            None => &self.agent.state.shared,
        }
    }

    fn queues(&self) -> &'a AdmissionQueues {
        match self.bound_to {
            Some(connection) => &connection.calls.queues,
            None => &self.agent.state.shared.queues,
        }
    }
}

/// A call that waits. If it is dropped, its caller gave it up, which is counted.
struct WaitGuard<'a>(&'a SharedState);

impl Drop for WaitGuard<'_> {
    fn drop(&mut self) {
        self.0.calls.ended(CallCounter::GivenUp);
    }
}

/// End of one kind of waiting, and the reason with which the call fails then.
struct WaitDeadline {
    end: Instant,
    not_opened: CallEnd,
}

impl WaitDeadline {
    /// Ends waiting after `timeout`, or at the deadline of the call if that is earlier.
    fn new(limit: TimeLimit, timeout: Duration, not_opened: CallEnd) -> Self {
        let deadline = limit.deadline();
        match clock::now().checked_add(timeout) {
            Some(end) if end < deadline => Self { end, not_opened },
            _ => Self {
                end: deadline,
                not_opened: CallEnd::TimedOut,
            },
        }
    }

    /// Awaits `waiting`, at most until the end.
    async fn apply<T>(&self, waiting: impl Future<Output = T>) -> Result<T, CallEnd> {
        timeout_at(clock::timer(self.end), waiting)
            .await
            .map_err(|_| self.not_opened)
    }
}
