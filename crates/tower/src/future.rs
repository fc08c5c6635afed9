//! The future of a response, whose memory is used for one request after another.

use crossbeam_queue::ArrayQueue;
use std::any::Any;
use std::fmt;
use std::pin::Pin;
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll};
use tokio_util::sync::ReusableBoxFuture;

/// Futures that are kept for further requests.
const MAX_KEPT: usize = 256;

/// Memory of completed futures. Clones share it.
///
/// A service may be called with requests of several types. Memory is kept for those of the first
/// one; the futures of others are allocated.
#[derive(Clone, Default)]
pub(crate) struct FuturePool(Arc<OnceLock<Box<dyn Any + Send + Sync>>>);

type Kept<T> = Arc<ArrayQueue<ReusableBoxFuture<'static, T>>>;

/// Future of [`AgentService`](crate::AgentService).
#[must_use = "futures do nothing unless polled"]
pub struct ResponseFuture<T: 'static> {
    /// `None` once it is complete.
    running: Option<ReusableBoxFuture<'static, T>>,
    kept: Option<Kept<T>>,
}

impl FuturePool {
    pub(crate) fn start<F>(&self, future: F) -> ResponseFuture<F::Output>
    where
        F: Future<Output: Send> + Send + 'static,
    {
        let kept = self
            .0
            .get_or_init(|| Box::new(Kept::<F::Output>::new(ArrayQueue::new(MAX_KEPT))));
        let kept = kept.downcast_ref::<Kept<F::Output>>().cloned();
        let running = match kept.as_ref().and_then(|kept| kept.pop()) {
            Some(mut reused) => {
                reused.set(future);
                reused
            }
            None => ReusableBoxFuture::new(future),
        };
        ResponseFuture {
            running: Some(running),
            kept,
        }
    }
}

impl<T> Future for ResponseFuture<T> {
    type Output = T;

    /// # Panics
    ///
    /// Panics if it is polled again after it has completed.
    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<T> {
        let running = self.running.as_mut();
        let running = running.expect("a future is not polled after it has completed");
        let polled = running.poll(cx);
        if polled.is_ready()
            && let (Some(done), Some(kept)) = (self.running.take(), &self.kept)
        {
            // Fails if enough are kept already; then it is dropped.
            let _ = kept.push(done);
        }
        polled
    }
}

impl fmt::Debug for FuturePool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FuturePool").finish_non_exhaustive()
    }
}

impl<T> fmt::Debug for ResponseFuture<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ResponseFuture").finish_non_exhaustive()
    }
}
