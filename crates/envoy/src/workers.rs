//! Futures that run the streams of a connection, one after another.
//!
//! The future of a stream is large, and most streams are short. A worker stays in its place when
//! its stream has ended, so that the next one neither allocates nor moves such a future.

use std::future::poll_fn;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Poll, Waker};

/// Workers that wait for a stream, at most. Each takes about 6 KiB.
const MAX_IDLE: usize = 128;

/// The workers of a connection that have nothing to do.
#[derive(Debug)]
pub(crate) struct Idle<J>(Mutex<Waiting<J>>);

#[derive(Debug)]
struct Waiting<J> {
    workers: Vec<Worker<J>>,
    has_ended: bool,
}

/// Place in which a worker gets what it has to do.
#[derive(Debug)]
pub(crate) struct Worker<J>(Arc<Mutex<State<J>>>);

#[derive(Debug)]
enum State<J> {
    Waits(Option<Waker>),
    Has(J),
    Ended,
}

impl<J> Idle<J> {
    pub(crate) fn new() -> Self {
        Self(Mutex::new(Waiting {
            workers: Vec::new(),
            has_ended: false,
        }))
    }

    /// Gives a job to a worker that waits. Without one, returns a new worker that has the job and
    /// has to be run.
    pub(crate) fn give(&self, job: J) -> Option<Worker<J>> {
        let waiting = lock(&self.0).workers.pop();
        match waiting {
            Some(worker) => {
                worker.set(State::Has(job));
                None
            }
            None => Some(Worker(Arc::new(Mutex::new(State::Has(job))))),
        }
    }

    /// Ends the workers that wait, and each of the others once its job is done.
    pub(crate) fn end(&self) {
        let workers = {
            let mut waiting = lock(&self.0);
            waiting.has_ended = true;
            std::mem::take(&mut waiting.workers)
        };
        for worker in workers {
            worker.set(State::Ended);
        }
    }

    /// Lets a worker wait for a further job. Returns `false` if it has to end.
    pub(crate) fn wait(&self, worker: &Worker<J>) -> bool {
        let mut waiting = lock(&self.0);
        let may_wait = !waiting.has_ended && waiting.workers.len() < MAX_IDLE;
        if may_wait {
            waiting.workers.push(Worker(Arc::clone(&worker.0)));
        }
        may_wait
    }
}

impl<J> Worker<J> {
    /// Returns the next job; `None` if the worker has to end.
    pub(crate) async fn next(&self) -> Option<J> {
        poll_fn(|cx| {
            let mut state = lock(&self.0);
            match std::mem::replace(&mut *state, State::Waits(None)) {
                State::Has(job) => Poll::Ready(Some(job)),
                State::Ended => Poll::Ready(None),
                State::Waits(_) => {
                    *state = State::Waits(Some(cx.waker().clone()));
                    Poll::Pending
                }
            }
        })
        .await
    }

    fn set(&self, state: State<J>) {
        let before = std::mem::replace(&mut *lock(&self.0), state);
        if let State::Waits(Some(waker)) = before {
            waker.wake();
        }
    }
}

/// Locks for a moment. What is locked is whole whatever panicked.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
