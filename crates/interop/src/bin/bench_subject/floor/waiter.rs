use atomic_waker::AtomicWaker;
use std::future::poll_fn;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::Poll;

/// Lets a caller wait for its answer, one at a time.
#[derive(Default)]
pub(crate) struct Waiter {
    answered: AtomicBool,
    waker: AtomicWaker,
}

impl Waiter {
    pub(super) fn answer(&self) {
        self.answered.store(true, Ordering::Release);
        self.waker.wake();
    }

    pub(super) async fn answered(&self) {
        poll_fn(|context| {
            self.waker.register(context.waker());
            if self.answered.swap(false, Ordering::Acquire) {
                Poll::Ready(())
            } else {
                Poll::Pending
            }
        })
        .await;
    }
}
