//! Admission of calls: opening one now, or waiting for a slot or for the end of a pause.
//!
//! The first attempt runs against the current snapshot and waits for nothing. Only if that fails
//! for a reason that may pass does the call go to the wait queues, from where every further attempt
//! loads the snapshot again.

use super::call::{CallParams, CallResult, NoAnswer};
use super::member::Member;
use crate::clock;
use crate::connection::{
    AdmissionQueues, Binding, Connection, NotOpened, PendingCall, SharedState, TimeLimit,
};
use crate::metrics::CallEnd;
use std::pin::pin;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::time::timeout_at;

impl Member {
    /// Opens a call on any connection of the agent, and waits for one if necessary.
    pub(super) async fn open_anywhere(self: &Arc<Self>, params: CallParams<'_>) -> CallResult {
        if let Some(error) = self.gone() {
            return Err(NoAnswer::Failed(error));
        }
        let opening = Opening {
            agent: self,
            bound_to: None,
            params,
        };
        opening.open().await
    }

    /// Opens a call on the connection that its exchange is bound to, and waits for it if necessary.
    pub(super) async fn open_bound(
        self: &Arc<Self>,
        connection: &Arc<Connection>,
        params: CallParams<'_>,
    ) -> CallResult {
        let opening = Opening {
            agent: self,
            bound_to: Some(connection),
            params,
        };
        opening.open().await
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
    async fn open(self) -> CallResult {
        self.state().calls.made();
        let opened = match self.try_open() {
            Ok(call) => Ok(call),
            Err(not_opened) => {
                // Exactly one end has to be counted for a call that was made. If the caller drops
                // this future while it waits, only the guard counts the end. If the wait returns,
                // the guard is forgotten: the end of an opened call is counted by `PendingCall`,
                // and that of any other by `resolve_not_opened`.
                let guard = WaitGuard(self.state());
                let opened = self.wait(not_opened).await;
                std::mem::forget(guard);
                opened
            }
        };
        opened.map_err(|not_opened| {
            let Self { agent, params, .. } = self;
            agent.resolve_not_opened(self.state(), not_opened, params)
        })
    }

    /// Makes one attempt, unless it would overtake a call that waits already.
    fn try_open(&self) -> Result<PendingCall, NotOpened> {
        let queues = self.queues();
        if queues.free_slot.waiting() > 0 {
            Err(NotOpened::Full)
        } else if queues.resumed.waiting() > 0 {
            Err(NotOpened::Paused)
        } else {
            self.attempt()
        }
    }

    fn attempt(&self) -> Result<PendingCall, NotOpened> {
        match self.bound_to {
            Some(connection) => self.agent.open_on(connection, Binding::Bound, self.params),
            None => self.agent.open_now(self.params),
        }
    }

    /// Waits until the call is opened, or is not for a reason that neither waiting nor another
    /// attempt removes. It was not opened at first for the reason `awaited`.
    ///
    /// The reason may change: a freed slot, for example, may belong to a connection that was paused
    /// meanwhile. The call then moves on to the queue for the new reason. Both deadlines are fixed
    /// at the start, so moving between queues does not prolong the wait.
    async fn wait(&self, mut awaited: NotOpened) -> Result<PendingCall, NotOpened> {
        let (config, queues, limit) = (&self.agent.config, self.queues(), self.params.limit);
        let pause_timeout = config.pause_timeout();
        let queue_end = WaitDeadline::new(limit, config.queue_timeout, NotOpened::QueueTimedOut);
        let pause_end = WaitDeadline::new(limit, pause_timeout, NotOpened::Paused);
        loop {
            let (queue, end) = match awaited {
                NotOpened::Full if queues.free_slot.waiting() >= config.max_queued_calls => {
                    return Err(NotOpened::QueueFull);
                }
                NotOpened::Full => (&*queues.free_slot, &queue_end),
                NotOpened::Paused | NotOpened::ExchangePaused if pause_timeout.is_zero() => {
                    return Err(NotOpened::Paused);
                }
                NotOpened::Paused => (&queues.resumed, &pause_end),
                NotOpened::ExchangePaused => {
                    let mut resumed = pin!(queues.exchange_resumed.notified());
                    // `notify_waiters` wakes only those that are registered. Registering before the
                    // attempt keeps a resumption in between from being missed.
                    resumed.as_mut().enable();
                    match self.attempt() {
                        Err(NotOpened::ExchangePaused) => pause_end.apply(resumed).await?,
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
            Some(connection) => connection.agent(),
            None => &self.agent.state.shared,
        }
    }

    fn queues(&self) -> &'a AdmissionQueues {
        match self.bound_to {
            Some(connection) => connection.queues(),
            None => &self.agent.state.shared.queues,
        }
    }
}

/// A call that waits. If it is dropped, its caller gave it up, which is counted.
struct WaitGuard<'a>(&'a SharedState);

impl Drop for WaitGuard<'_> {
    fn drop(&mut self) {
        self.0.calls.ended(CallEnd::GivenUp);
    }
}

/// End of one kind of waiting, and the reason with which the call fails then.
struct WaitDeadline {
    end: Instant,
    not_opened: NotOpened,
}

impl WaitDeadline {
    /// Ends waiting after `timeout`, or at the deadline of the call if that is earlier.
    fn new(limit: TimeLimit, timeout: Duration, not_opened: NotOpened) -> Self {
        let deadline = limit.deadline();
        match clock::now().checked_add(timeout) {
            Some(end) if end < deadline => Self { end, not_opened },
            _ => Self {
                end: deadline,
                not_opened: NotOpened::TimedOut,
            },
        }
    }

    /// Awaits `waiting`, at most until the end.
    async fn apply<T>(&self, waiting: impl Future<Output = T>) -> Result<T, NotOpened> {
        timeout_at(clock::timer(self.end), waiting)
            .await
            .map_err(|_| self.not_opened)
    }
}
