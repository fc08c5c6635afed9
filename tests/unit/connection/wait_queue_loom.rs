use super::*;
use futures_util::FutureExt;
use loom::future::block_on;
use loom::thread;
use std::pin::pin;
use std::sync::Arc;

/// A number of permits, taken and released as
/// [`SlotBitmap`](crate::connection::slot_bitmap::SlotBitmap) does with slots.
struct Permits {
    queue: WaitQueue,
    free: AtomicUsize,
}

impl Permits {
    fn new(free: usize) -> Arc<Self> {
        Arc::new(Self {
            queue: WaitQueue::default(),
            free: AtomicUsize::new(free),
        })
    }

    fn take(&self) -> Option<()> {
        let free = self.free.load(Ordering::SeqCst);
        let next = free.checked_sub(1)?;
        let order = Ordering::SeqCst;
        let taken = self.free.compare_exchange(free, next, order, order);
        taken.ok().map(drop)
    }

    fn release(&self) {
        self.free.fetch_add(1, Ordering::SeqCst);
        self.queue.notify_one();
    }

    fn acquire(&self) {
        if self.queue.try_acquire(|| self.take()).is_none() {
            block_on(self.queue.acquire(|| self.take()));
        }
    }
}

/// A task that waits during a release gets the permit.
#[test]
fn no_wake_up_is_lost() {
    loom::model(|| {
        let permits = Permits::new(0);
        let releasing = Arc::clone(&permits);
        let other = thread::spawn(move || releasing.release());
        permits.acquire();
        other.join().unwrap();
        assert_eq!(permits.queue.waiting(), 0);
    });
}

/// Two threads take turns with one permit.
#[test]
fn threads_take_turns_with_one_permit() {
    let mut model = loom::model::Builder::new();
    model.preemption_bound = Some(3);
    model.check(|| {
        let permits = Permits::new(1);
        let shared = Arc::clone(&permits);
        let take_turn = |permits: &Permits| {
            permits.acquire();
            permits.release();
        };
        let other = thread::spawn(move || take_turn(&shared));
        take_turn(&permits);
        other.join().unwrap();
    });
}

/// A task that gives up at the moment it is notified lets the next one try.
#[test]
fn next_waiter_is_woken_if_the_head_gives_up() {
    let mut model = loom::model::Builder::new();
    model.preemption_bound = Some(3);
    model.check(|| {
        let permits = Permits::new(0);
        let (releasing, waiting) = (Arc::clone(&permits), Arc::clone(&permits));
        let mut first = Box::pin(async move { waiting.queue.acquire(|| waiting.take()).await });
        assert!(first.as_mut().now_or_never().is_none());
        let next = Arc::clone(&permits);
        let second = thread::spawn(move || {
            block_on(pin!(next.queue.acquire(|| next.take())));
        });
        let releaser = thread::spawn(move || releasing.release());
        drop(first);
        second.join().unwrap();
        releaser.join().unwrap();
    });
}
