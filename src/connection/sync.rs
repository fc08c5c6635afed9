//! Atomics that loom replaces when it checks every interleaving.

#[cfg(not(tollgate_loom))]
pub(crate) use atomic_waker::AtomicWaker;
#[cfg(not(tollgate_loom))]
pub(crate) use crossbeam_queue::ArrayQueue;
#[cfg(not(tollgate_loom))]
pub(crate) use plain::UnsafeCell;
#[cfg(not(tollgate_loom))]
pub(crate) use std::sync::Mutex;
#[cfg(not(tollgate_loom))]
pub(crate) use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering, fence};

#[cfg(tollgate_loom)]
pub(crate) use checked::{ArrayQueue, AtomicWaker};
#[cfg(tollgate_loom)]
pub(crate) use loom::cell::UnsafeCell;
#[cfg(tollgate_loom)]
pub(crate) use loom::sync::Mutex;
#[cfg(tollgate_loom)]
pub(crate) use loom::sync::atomic::{AtomicU64, AtomicUsize, Ordering, fence};

/// Stands between SeqCst accesses whose one order for all threads matters. Loom takes them for AcqRel and knows
/// that order of fences only; elsewhere this is nothing.
pub(crate) fn seq_cst_for_loom() {
    #[cfg(tollgate_loom)]
    fence(Ordering::SeqCst);
}

#[cfg(not(tollgate_loom))]
mod plain {
    /// The standard cell with loom's interface.
    #[derive(Debug, Default)]
    pub(crate) struct UnsafeCell<T>(std::cell::UnsafeCell<T>);

    impl<T> UnsafeCell<T> {
        pub(crate) const fn new(value: T) -> Self {
            Self(std::cell::UnsafeCell::new(value))
        }

        pub(crate) fn with<R>(&self, read: impl FnOnce(*const T) -> R) -> R {
            read(self.0.get())
        }

        pub(crate) fn with_mut<R>(&self, write: impl FnOnce(*mut T) -> R) -> R {
            write(self.0.get())
        }
    }
}

#[cfg(tollgate_loom)]
mod checked {
    use std::task::Waker;

    /// Loom's waker with the interface of `atomic_waker`.
    #[derive(Debug)]
    pub(crate) struct AtomicWaker(loom::future::AtomicWaker);

    impl AtomicWaker {
        pub(crate) fn new() -> Self {
            Self(loom::future::AtomicWaker::new())
        }

        pub(crate) fn register(&self, waker: &Waker) {
            self.0.register_by_ref(waker);
        }

        pub(crate) fn wake(&self) {
            self.0.wake();
        }

        pub(crate) fn take(&self) -> Option<Waker> {
            self.0.take_waker()
        }
    }

    /// The queue of crossbeam, which loom does not look into, as one behind a lock: each operation is one
    /// step.
    #[derive(Debug)]
    pub(crate) struct ArrayQueue<T> {
        items: loom::sync::Mutex<std::collections::VecDeque<T>>,
        capacity: usize,
    }

    impl<T> ArrayQueue<T> {
        pub(crate) fn new(capacity: usize) -> Self {
            Self {
                items: loom::sync::Mutex::default(),
                capacity,
            }
        }

        pub(crate) fn capacity(&self) -> usize {
            self.capacity
        }

        pub(crate) fn len(&self) -> usize {
            self.items.lock().expect("no test panics with it").len()
        }

        pub(crate) fn push(&self, item: T) -> Result<(), T> {
            let mut items = self.items.lock().expect("no test panics with it");
            if items.len() == self.capacity {
                return Err(item);
            }
            items.push_back(item);
            Ok(())
        }

        pub(crate) fn pop(&self) -> Option<T> {
            self.items
                .lock()
                .expect("no test panics with it")
                .pop_front()
        }
    }
}
