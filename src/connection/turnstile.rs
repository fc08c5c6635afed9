use super::sync::{AtomicUsize, Ordering};
use tokio::sync::{Mutex, Notify};

/// Lets tasks wait in order for something that is in short supply.
///
/// Whoever makes room calls [`Turnstile::made_room`], which costs one load while nobody waits.
#[derive(Debug, Default)]
pub(crate) struct Turnstile {
    waiting: AtomicUsize,
    /// Held by the task at the head of the line, the only one that tries. It hands out its lock in
    /// order.
    head: Mutex<()>,
    room: Notify,
}

impl Turnstile {
    /// Tries at once if nobody waits, so that nobody is overtaken.
    pub(crate) fn try_pass<T>(&self, attempt: impl FnOnce() -> Option<T>) -> Option<T> {
        if self.waiting.load(Ordering::SeqCst) > 0 {
            return None;
        }
        attempt()
    }

    /// Waits in line until an attempt succeeds.
    pub(crate) async fn pass<T>(&self, mut attempt: impl FnMut() -> Option<T>) -> T {
        let _in_line = InLine::join(&self.waiting);
        let _head = self.head.lock().await;
        loop {
            if let Some(passed) = attempt() {
                return passed;
            }
            self.room.notified().await;
        }
    }

    /// How many tasks are in line.
    pub(crate) fn waiting(&self) -> usize {
        self.waiting.load(Ordering::SeqCst)
    }

    /// Has the head of the line try again.
    ///
    /// SeqCst, like joining the line and every change of what is waited for: whoever makes room and then
    /// sees nobody waiting did so before the next task joined, and that one's attempt finds the room.
    pub(crate) fn made_room(&self) {
        if self.waiting.load(Ordering::SeqCst) > 0 {
            self.room.notify_one();
        }
    }
}

/// Counts a waiting task, also when its future is dropped.
struct InLine<'t>(&'t AtomicUsize);

impl<'t> InLine<'t> {
    fn join(waiting: &'t AtomicUsize) -> Self {
        waiting.fetch_add(1, Ordering::SeqCst);
        Self(waiting)
    }
}

impl Drop for InLine<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

#[cfg(all(test, not(tollgate_loom)))]
mod tests {
    use super::*;
    use std::sync::Arc;
    use std::sync::atomic::AtomicUsize;

    fn take_one(room: &AtomicUsize) -> Option<()> {
        room.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |room| {
            room.checked_sub(1)
        })
        .ok()
        .map(drop)
    }

    #[tokio::test]
    async fn tasks_pass_in_the_order_they_came() {
        let turnstile = Arc::new(Turnstile::default());
        let room = Arc::new(AtomicUsize::new(0));
        let (passed, mut order) = tokio::sync::mpsc::unbounded_channel();
        for n in 0..10 {
            let (turnstile, room, passed) = (turnstile.clone(), room.clone(), passed.clone());
            tokio::spawn(async move {
                turnstile.pass(|| take_one(&room)).await;
                passed.send(n).unwrap();
            });
            tokio::task::yield_now().await;
        }
        for n in 0..10 {
            assert!(turnstile.try_pass(|| take_one(&room)).is_none());
            room.fetch_add(1, Ordering::SeqCst);
            turnstile.made_room();
            assert_eq!(order.recv().await, Some(n));
        }
    }

    #[tokio::test]
    async fn a_task_that_leaves_passes_its_turn_on() {
        let turnstile = Arc::new(Turnstile::default());
        let room = Arc::new(AtomicUsize::new(0));
        let waiting = |turnstile: Arc<Turnstile>, room: Arc<AtomicUsize>| {
            tokio::spawn(async move { turnstile.pass(|| take_one(&room)).await })
        };
        let first = waiting(turnstile.clone(), room.clone());
        tokio::task::yield_now().await;
        let second = waiting(turnstile.clone(), room.clone());
        tokio::task::yield_now().await;
        room.store(1, Ordering::SeqCst);
        turnstile.made_room();
        first.abort();
        second.await.unwrap();
    }
}
