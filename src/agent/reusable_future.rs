//! Reusable memory for the futures of handlers.

use super::answer::{FatalEvent, JobResult, Progress, Scratch};
use crate::wire::StreamId;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

/// A future that handles an event, with its state. The allocations are reused for one event after
/// another.
pub(super) struct ReusableFuture<F> {
    /// The running future, if there is one.
    pub(super) future: Pin<Box<Option<F>>>,
    pub(super) progress: Arc<Progress>,
    pub(super) stream: Option<StreamId>,
    pub(super) payload_len: usize,
    /// Set while nothing more is read until this event is answered.
    pub(super) holds_reading: bool,
    /// `None` while a future runs, which then owns the buffers.
    pub(super) scratch: Option<Box<Scratch>>,
}

impl<F> Default for ReusableFuture<F> {
    fn default() -> Self {
        Self {
            future: Box::pin(None),
            progress: Arc::default(),
            stream: None,
            payload_len: 0,
            holds_reading: false,
            scratch: Some(Box::default()),
        }
    }
}

impl<F> ReusableFuture<F> {
    /// Returns the bytes that the event holds until it is answered.
    pub(super) fn held(&self) -> usize {
        self.payload_len + self.progress.decoded_len()
    }
}

impl<F: Future<Output = JobResult>> ReusableFuture<F> {
    /// Polls the future. Ready at once if there is none.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), FatalEvent>> {
        let Some(future) = self.future.as_mut().as_pin_mut() else {
            return Poll::Ready(Ok(()));
        };
        let done = ready!(future.poll(cx));
        self.future.set(None);
        self.scratch = Some(done.scratch);
        Poll::Ready(done.result)
    }
}

/// An event whose handler is pending. Resolves to the [`ReusableFuture`], for reuse, and the
/// result.
pub(super) struct PendingEvent<F>(pub(super) Option<ReusableFuture<F>>);

impl<F: Future<Output = JobResult>> Future for PendingEvent<F> {
    type Output = (ReusableFuture<F>, Result<(), FatalEvent>);

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let Some(reusable) = &mut self.0 else {
            return Poll::Pending;
        };
        let result = ready!(reusable.poll(cx));
        self.0
            .take()
            .map_or(Poll::Pending, |reusable| Poll::Ready((reusable, result)))
    }
}
