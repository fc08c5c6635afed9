use super::answer::{Done, Progress, Scratch, Unanswerable};
use crate::wire::StreamId;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

/// A place for an event to run in; it is used for one after another.
pub(super) struct Place<F> {
    pub(super) future: Pin<Box<Option<F>>>,
    pub(super) progress: Arc<Progress>,
    pub(super) stream: Option<StreamId>,
    pub(super) payload_len: usize,
    /// `None` while an event runs.
    pub(super) scratch: Option<Box<Scratch>>,
}

impl<F> Default for Place<F> {
    fn default() -> Self {
        Self {
            future: Box::pin(None),
            progress: Arc::default(),
            stream: None,
            payload_len: 0,
            scratch: Some(Box::default()),
        }
    }
}

impl<F: Future<Output = Done>> Place<F> {
    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Unanswerable>> {
        let Some(future) = self.future.as_mut().as_pin_mut() else {
            return Poll::Ready(Ok(()));
        };
        let done = ready!(future.poll(cx));
        self.future.set(None);
        self.scratch = Some(done.scratch);
        Poll::Ready(done.result)
    }
}

/// An event whose handler waits. Gives its place back when it is done.
pub(super) struct Waiting<F>(pub(super) Option<Place<F>>);

impl<F: Future<Output = Done>> Future for Waiting<F> {
    type Output = (Place<F>, Result<(), Unanswerable>);

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let Some(place) = &mut self.0 else {
            return Poll::Pending;
        };
        let result = ready!(place.poll(cx));
        self.0
            .take()
            .map_or(Poll::Pending, |place| Poll::Ready((place, result)))
    }
}
