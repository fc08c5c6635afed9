//! Synchronization primitives, replaced by loom's in the builds that check every interleaving.

#[cfg(not(tollgate_loom))]
pub(crate) use atomic_waker::AtomicWaker;
#[cfg(not(tollgate_loom))]
pub(crate) use crossbeam_queue::ArrayQueue;
#[cfg(not(tollgate_loom))]
pub(crate) use plain::UnsafeCell;
#[cfg(not(tollgate_loom))]
pub(crate) use std::hint::spin_loop;
#[cfg(not(tollgate_loom))]
pub(crate) use std::sync::Mutex;
#[cfg(not(tollgate_loom))]
pub(crate) use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering, fence};

#[cfg(tollgate_loom)]
pub(crate) use checked::{ArrayQueue, AtomicWaker};
#[cfg(tollgate_loom)]
pub(crate) use loom::cell::UnsafeCell;
#[cfg(tollgate_loom)]
pub(crate) use loom::hint::spin_loop;
#[cfg(tollgate_loom)]
pub(crate) use loom::sync::Mutex;
#[cfg(tollgate_loom)]
pub(crate) use loom::sync::atomic::{AtomicU64, AtomicUsize, Ordering, fence};

/// Orders the SeqCst accesses before and after it under loom. Does nothing in other builds.
///
/// Loom treats SeqCst accesses as AcqRel, and has the total order of SeqCst for fences only.
pub(crate) fn seq_cst_for_loom() {
    #[cfg(tollgate_loom)]
    fence(Ordering::SeqCst);
}

#[cfg(not(tollgate_loom))]
mod plain {
    /// Standard `UnsafeCell` with the interface of loom's.
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

    /// Loom's `AtomicWaker` with the interface of the `atomic_waker` crate.
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

    /// Replacement for crossbeam's `ArrayQueue`, which loom cannot check: a queue behind a lock, so
    /// that each operation is one step.
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
            self.items
                .lock()
                .expect("no test panics while it holds the lock")
                .len()
        }

        pub(crate) fn is_empty(&self) -> bool {
            self.len() == 0
        }

        pub(crate) fn push(&self, item: T) -> Result<(), T> {
            let mut items = self
                .items
                .lock()
                .expect("no test panics while it holds the lock");
            if items.len() == self.capacity {
                return Err(item);
            }
            items.push_back(item);
            Ok(())
        }

        pub(crate) fn pop(&self) -> Option<T> {
            self.items
                .lock()
                .expect("no test panics while it holds the lock")
                .pop_front()
        }
    }
}
