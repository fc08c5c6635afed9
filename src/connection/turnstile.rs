use super::sync::{AtomicUsize, Mutex, Ordering, seq_cst_for_loom};
use std::collections::VecDeque;
use std::future::poll_fn;
use std::sync::PoisonError;
use std::task::{Context, Poll, Waker};

/// Lets tasks wait in order for something that is in short supply.
///
/// Whoever makes room calls [`Turnstile::made_room`], which costs one load while nobody waits.
#[derive(Debug, Default)]
pub(crate) struct Turnstile {
    /// How many are in line. Changed before they join it and after they leave.
    waiting: AtomicUsize,
    line: Mutex<Line>,
}

#[derive(Debug, Default)]
struct Line {
    /// Those who wait, in order; only the first tries.
    places: VecDeque<Place>,
    next_number: u64,
}

#[derive(Debug)]
struct Place {
    number: u64,
    /// `None` while its task is on its way to try.
    waker: Option<Waker>,
}

impl Turnstile {
    /// Tries at once if nobody waits, so that nobody is overtaken.
    pub(crate) fn try_pass<T>(&self, attempt: impl FnOnce() -> Option<T>) -> Option<T> {
        if self.waiting() > 0 {
            return None;
        }
        attempt()
    }

    /// Waits in line until an attempt succeeds.
    pub(crate) async fn pass<T>(&self, mut attempt: impl FnMut() -> Option<T>) -> T {
        let in_line = InLine::join(self);
        poll_fn(|cx| {
            if !in_line.prepare(cx) {
                return Poll::Pending;
            }
            // Whoever makes room after this attempt has looked finds the waker that is in place by now.
            attempt().map_or(Poll::Pending, Poll::Ready)
        })
        .await
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
        seq_cst_for_loom();
        if self.waiting() > 0 {
            let head = self.change(Line::take_head_waker);
            wake(head);
        }
    }

    fn change<T>(&self, change: impl FnOnce(&mut Line) -> T) -> T {
        // Nothing that holds the lock can leave the line half changed.
        change(&mut self.line.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Line {
    fn join(&mut self) -> u64 {
        let number = self.next_number;
        self.next_number += 1;
        self.places.push_back(Place {
            number,
            waker: None,
        });
        number
    }

    /// Notes whom to wake. Says whether that is the head.
    fn prepare(&mut self, number: u64, waker: &Waker) -> bool {
        if let Ok(index) = self.index_of(number) {
            match &mut self.places[index].waker {
                Some(known) => known.clone_from(waker),
                unknown => *unknown = Some(waker.clone()),
            }
        }
        self.places
            .front()
            .is_some_and(|head| head.number == number)
    }

    /// Whom to wake now, if it was the head that left.
    fn leave(&mut self, number: u64) -> Option<Waker> {
        let index = self.index_of(number).ok()?;
        self.places.remove(index);
        if index == 0 {
            self.take_head_waker()
        } else {
            None
        }
    }

    fn take_head_waker(&mut self) -> Option<Waker> {
        self.places.front_mut()?.waker.take()
    }

    /// Numbers are given in order.
    fn index_of(&self, number: u64) -> Result<usize, usize> {
        self.places
            .binary_search_by_key(&number, |place| place.number)
    }
}

/// Outside the lock, since wakers are foreign code.
fn wake(waker: Option<Waker>) {
    if let Some(waker) = waker {
        waker.wake();
    }
}

/// A task's place in line. When it leaves, with or without success, the next one tries.
struct InLine<'t> {
    turnstile: &'t Turnstile,
    number: u64,
}

impl<'t> InLine<'t> {
    fn join(turnstile: &'t Turnstile) -> Self {
        turnstile.waiting.fetch_add(1, Ordering::SeqCst);
        seq_cst_for_loom();
        let number = turnstile.change(Line::join);
        Self { turnstile, number }
    }

    /// Notes whom to wake. Says whether it is this task's turn to try.
    fn prepare(&self, cx: &Context<'_>) -> bool {
        let waker = cx.waker();
        self.turnstile
            .change(|line| line.prepare(self.number, waker))
    }
}

impl Drop for InLine<'_> {
    fn drop(&mut self) {
        let next = self.turnstile.change(|line| line.leave(self.number));
        self.turnstile.waiting.fetch_sub(1, Ordering::SeqCst);
        wake(next);
    }
}

/// Every interleaving of a few threads, checked by loom (`scripts/loom`).
#[cfg(all(test, tollgate_loom))]
mod loom_tests {
    use super::*;
    use futures_util::FutureExt;
    use loom::future::block_on;
    use loom::thread;
    use std::pin::pin;
    use std::sync::Arc;

    /// Places as [`Occupancy`](crate::connection::occupancy::Occupancy) gives them.
    struct Supply {
        turnstile: Turnstile,
        free: AtomicUsize,
    }

    impl Supply {
        fn of(free: usize) -> Arc<Self> {
            Arc::new(Self {
                turnstile: Turnstile::default(),
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

        fn give_back(&self) {
            self.free.fetch_add(1, Ordering::SeqCst);
            self.turnstile.made_room();
        }

        fn pass(&self) {
            if self.turnstile.try_pass(|| self.take()).is_none() {
                block_on(self.turnstile.pass(|| self.take()));
            }
        }
    }

    /// Whoever waits while room is made gets through.
    #[test]
    fn no_wake_up_is_lost() {
        loom::model(|| {
            let supply = Supply::of(0);
            let giving = Arc::clone(&supply);
            let other = thread::spawn(move || giving.give_back());
            supply.pass();
            other.join().unwrap();
            assert_eq!(supply.turnstile.waiting(), 0);
        });
    }

    /// Two take turns with one place.
    #[test]
    fn a_place_goes_round() {
        let mut model = loom::model::Builder::new();
        model.preemption_bound = Some(3);
        model.check(|| {
            let supply = Supply::of(1);
            let sharing = Arc::clone(&supply);
            let use_it = |supply: &Supply| {
                supply.pass();
                supply.give_back();
            };
            let other = thread::spawn(move || use_it(&sharing));
            use_it(&supply);
            other.join().unwrap();
        });
    }

    /// A task that leaves in the moment when it is its turn passes that on.
    #[test]
    fn who_leaves_passes_its_turn_on() {
        let mut model = loom::model::Builder::new();
        model.preemption_bound = Some(3);
        model.check(|| {
            let supply = Supply::of(0);
            let (giving, waiting) = (Arc::clone(&supply), Arc::clone(&supply));
            let mut leaves =
                Box::pin(async move { waiting.turnstile.pass(|| waiting.take()).await });
            assert!(leaves.as_mut().now_or_never().is_none());
            let next = Arc::clone(&supply);
            let behind = thread::spawn(move || {
                block_on(pin!(next.turnstile.pass(|| next.take())));
            });
            let giver = thread::spawn(move || giving.give_back());
            drop(leaves);
            behind.join().unwrap();
            giver.join().unwrap();
        });
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
