//! The future of a call, and its options.

use super::call::{CallResult, take_answer, timings_of};
use crate::connection::TimeLimit;
use crate::error::CallError;
use crate::metrics::CallTimings;
use crate::protocol::AgentResponse;
use pin_project_lite::pin_project;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

pin_project! {
    /// A call: the event is sent when this future is first polled, and the output is the agent's
    /// answer.
    ///
    /// Dropping the future gives the call up. An answer that arrives later is counted and
    /// discarded.
    ///
    /// ```no_run
    /// # async fn example(
    /// #     exchange: &mut tollgate::Exchange,
    /// #     head: &tollgate::RequestHeadersEvent,
    /// # ) -> Result<(), tollgate::CallError> {
    /// use std::time::Duration;
    ///
    /// let answer = exchange.send(head).await?;
    /// let answer = exchange.send(head).timeout(Duration::from_millis(20)).await?;
    /// let (answer, timings) = exchange.send(head).timed().await?;
    /// # Ok(())
    /// # }
    /// ```
    #[must_use = "a call is made when it is awaited"]
    pub struct Call<S: StartCall> {
        options: CallOptions,
        #[pin]
        progress: Progress<S, S::Future>,
    }
}

pin_project! {
    /// A [`Call`] that returns a timing breakdown with the answer: see [`Call::timed`].
    #[must_use = "a call is made when it is awaited"]
    pub struct TimedCall<S: StartCall> {
        #[pin]
        call: Call<S>,
    }
}

pin_project! {
    #[project = ProgressProjection]
    enum Progress<S, F> {
        /// `None` only while the call is being started.
        NotStarted { start: Option<S> },
        Started { #[pin] future: F },
    }
}

/// Starts a call. Implemented only by the library.
#[allow(unnameable_types, reason = "only the library implements and calls it")]
pub trait StartCall {
    /// Future of the call.
    type Future: Future<Output = Answered>;

    /// Starts the call with its options.
    fn start(self, options: CallOptions) -> Self::Future;
}

impl<S: FnOnce(CallOptions) -> F, F: Future<Output = Answered>> StartCall for S {
    type Future = F;

    fn start(self, options: CallOptions) -> F {
        self(options)
    }
}

/// Options of a call.
#[allow(unnameable_types, reason = "set by the methods of `Call`")]
#[derive(Debug, Clone, Copy, Default)]
pub struct CallOptions {
    timeout: Option<Duration>,
    is_timed: bool,
}

/// Result of a call, whose answer is still in its slot.
#[allow(unnameable_types, reason = "turned into the output of `Call`")]
pub struct Answered(pub(super) CallResult);

impl<S: StartCall> Call<S> {
    pub(super) fn new(start: S) -> Self {
        Self {
            options: CallOptions::default(),
            progress: Progress::NotStarted { start: Some(start) },
        }
    }

    /// Sets the timeout of this call. It is not extended for a degraded agent.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.options.timeout = Some(timeout);
        self
    }

    /// Returns a timing breakdown with the answer: `None` if the event was allowed without asking
    /// the agent.
    pub fn timed(mut self) -> TimedCall<S> {
        self.options.is_timed = true;
        TimedCall { call: self }
    }

    fn poll_answered(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<CallResult> {
        let mut this = self.project();
        loop {
            let start = match this.progress.as_mut().project() {
                ProgressProjection::Started { future } => {
                    return future.poll(cx).map(|Answered(result)| result);
                }
                ProgressProjection::NotStarted { start } => start.take(),
            };
            if let Some(start) = start {
                let future = start.start(*this.options);
                this.progress.set(Progress::Started { future });
            }
        }
    }
}

impl<S: StartCall> TimedCall<S> {
    /// Sets the timeout of this call. It is not extended for a degraded agent.
    pub fn timeout(self, timeout: Duration) -> Self {
        Self {
            call: self.call.timeout(timeout),
        }
    }
}

impl<S: StartCall> Future for Call<S> {
    type Output = Result<AgentResponse, CallError>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        self.poll_answered(cx).map(take_answer)
    }
}

impl<S: StartCall> Future for TimedCall<S> {
    type Output = Result<(AgentResponse, Option<CallTimings>), CallError>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let answered = ready!(self.project().call.poll_answered(cx));
        let timings = timings_of(&answered);
        Poll::Ready(take_answer(answered).map(|answer| (answer, timings)))
    }
}

impl CallOptions {
    /// Returns the time limit of a call that begins now, whose configured timeout is `timeout`.
    pub(super) fn limit(self, timeout: Duration) -> TimeLimit {
        let limit = match self.timeout {
            Some(timeout) => TimeLimit::fixed(timeout),
            None => TimeLimit::configured(timeout),
        };
        if self.is_timed { limit.timed() } else { limit }
    }
}
