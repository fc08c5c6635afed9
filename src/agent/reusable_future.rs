//! Reusable memory for the futures of handlers.

use super::answer::{FatalEvent, JobResult, Progress, Scratch};
use crate::wire::StreamId;
use futures_util::stream::{FuturesUnordered, StreamExt};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

/// Memory of a parser up to which it is always kept.
const MAX_SMALL: usize = 128 * 1024;

/// Larger parsers that are kept.
const MAX_LARGE: usize = 8;

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
    /// Returns the bytes that the parser keeps between events.
    fn kept(&self) -> usize {
        self.scratch.as_ref().map_or(0, |scratch| scratch.kept())
    }

    /// Returns the bytes that the event holds until it is answered.
    pub(super) fn held(&self) -> usize {
        self.payload_len + self.progress.decoded_len()
    }
}

/// Idle allocations for further events.
pub(super) struct Spare<F> {
    idle: Vec<ReusableFuture<F>>,
    large: usize,
    /// Bytes that the parsers hold which are larger than [`MAX_SMALL`].
    held: usize,
}

impl<F> Default for Spare<F> {
    fn default() -> Self {
        Self {
            idle: Vec::new(),
            large: 0,
            held: 0,
        }
    }
}

impl<F> Spare<F> {
    pub(super) fn take(&mut self) -> ReusableFuture<F> {
        let reusable = self.idle.pop().unwrap_or_default();
        let kept = reusable.kept();
        if kept > MAX_SMALL {
            self.large -= 1;
            self.held -= kept;
        }
        reusable
    }

    /// Keeps the allocations of an event, unless there are enough whose parsers are large.
    pub(super) fn keep(&mut self, reusable: ReusableFuture<F>) {
        let kept = reusable.kept();
        if kept > MAX_SMALL {
            if self.large == MAX_LARGE {
                return;
            }
            self.large += 1;
            self.held += kept;
        }
        self.idle.push(reusable);
    }

    pub(super) fn len(&self) -> usize {
        self.idle.len()
    }

    /// Returns the bytes that large parsers hold.
    pub(super) fn held(&self) -> usize {
        self.held
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

/// The events whose handler is pending.
pub(super) struct PendingEvents<F> {
    events: FuturesUnordered<PendingEvent<F>>,
    /// Events that were cancelled. They stay among `events` for a while: to take one out, all
    /// others would have to be moved and polled again.
    cancelled: usize,
    held: usize,
}

impl<F> PendingEvents<F> {
    pub(super) fn new() -> Self {
        Self {
            events: FuturesUnordered::new(),
            cancelled: 0,
            held: 0,
        }
    }

    pub(super) fn len(&self) -> usize {
        self.events.len() - self.cancelled
    }

    pub(super) fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Returns the bytes that the events hold.
    pub(super) fn held(&self) -> usize {
        self.held
    }

    pub(super) fn push(&mut self, event: ReusableFuture<F>) {
        self.held += event.held();
        self.events.push(PendingEvent(Some(event)));
    }

    /// Takes out the events of an exchange, one after another.
    pub(super) fn cancel(&mut self, key: u64, mut each: impl FnMut(ReusableFuture<F>)) {
        for event in self.events.iter_mut() {
            if let Some(cancelled) = event.0.take_if(|event| event.progress.key() == key) {
                self.cancelled += 1;
                self.held -= cancelled.held();
                each(cancelled);
            }
        }
        if self.cancelled > self.len() {
            self.cancelled = 0;
            let events = std::mem::take(&mut self.events);
            self.events
                .extend(events.into_iter().filter(|event| event.0.is_some()));
        }
    }
}

impl<F: Future<Output = JobResult>> PendingEvents<F> {
    /// Polls for the end of an event that was not cancelled.
    pub(super) fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<Ended<F>>> {
        // Cheaper than a poll, which registers a waker although there is nothing to wait for.
        if self.events.is_empty() {
            return Poll::Ready(None);
        }
        let ended = ready!(self.events.poll_next_unpin(cx));
        if let Some((event, _)) = &ended {
            self.held -= event.held();
        }
        Poll::Ready(ended)
    }
}

/// An event whose handler has completed, for reuse, and the result.
type Ended<F> = (ReusableFuture<F>, Result<(), FatalEvent>);

/// An event whose handler is pending; `None` once it was cancelled.
struct PendingEvent<F>(Option<ReusableFuture<F>>);

impl<F: Future<Output = JobResult>> Future for PendingEvent<F> {
    type Output = Ended<F>;

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
