//! Compares locks and atomics for the state of a connection that each call reads and writes.

use crate::common::{alone_and_beside_another, idle_connection};
use criterion::{Criterion, Throughput};
use std::hint::black_box;
use std::sync::{Mutex, PoisonError, RwLock};
use std::time::Instant;

/// A lock for each value, as `zentinel-agent-protocol` had before.
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

/// Measures reading the health and writing the time of the last use. The time is given, as in a
/// call.
pub(crate) fn health(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("health");
    let now = Instant::now();
    let locked = Locked {
        is_healthy: Mutex::new(true),
        last_used: RwLock::new(now),
    };
    let connection = idle_connection();
    group.throughput(Throughput::Elements(REPETITIONS));
    let healthy = "is healthy";
    alone_and_beside_another(&mut group, "Mutex", healthy, || {
        repeat(|| black_box(locked.is_healthy()));
    });
    alone_and_beside_another(&mut group, "atomics", healthy, || {
        repeat(|| black_box(connection.is_healthy()));
    });
    let used = "last used";
    alone_and_beside_another(&mut group, "RwLock", used, || {
        repeat(|| locked.touch(*black_box(&now)));
    });
    alone_and_beside_another(&mut group, "atomics", used, || {
        repeat(|| connection.touch(*black_box(&now)));
    });
}

/// Operations per iteration: enough for contention between threads.
const REPETITIONS: u64 = 100;

fn repeat<T>(operation: impl Fn() -> T) {
    for _ in 0..REPETITIONS {
        operation();
    }
}
