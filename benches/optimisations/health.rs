//! What a call asks of its connection and notes on it: behind a lock, or in atomics.

use crate::common::alone_and_beside_another;
use criterion::Criterion;
use std::hint::black_box;
use std::sync::{Mutex, PoisonError, RwLock};
use std::time::Instant;
use tollgate::bench::IdleConnection;

/// As the published crate had it before: a lock for each.
struct Locked {
    is_healthy: Mutex<bool>,
    last_used: RwLock<Instant>,
}

impl Locked {
    fn is_healthy(&self) -> bool {
        *self
            .is_healthy
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    fn touch(&self, now: Instant) {
        *self
            .last_used
            .write()
            .unwrap_or_else(PoisonError::into_inner) = now;
    }
}

/// Is it healthy, and when was it used? The time comes from elsewhere, as it does in a call.
pub(crate) fn health(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("health");
    let now = Instant::now();
    let locked = Locked {
        is_healthy: Mutex::new(true),
        last_used: RwLock::new(now),
    };
    let with_locks = || {
        black_box(locked.is_healthy());
        locked.touch(black_box(now));
    };
    let connection = IdleConnection::default();
    let with_atomics = || {
        black_box(connection.is_healthy());
        connection.touch(black_box(now));
    };
    let what = "healthy and last used";
    alone_and_beside_another(&mut group, "locks", what, with_locks);
    alone_and_beside_another(&mut group, "atomics", what, with_atomics);
}
