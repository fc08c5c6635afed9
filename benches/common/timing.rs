use criterion::measurement::WallTime;
use criterion::{BenchmarkGroup, BenchmarkId, Criterion};
use std::fmt::Display;
use std::sync::Barrier;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

/// Returns a configuration that is long enough for a median and lets all benchmarks run within
/// minutes.
pub fn brief() -> Criterion {
    Criterion::default()
        .warm_up_time(Duration::from_millis(500))
        .measurement_time(Duration::from_secs(2))
        .configure_from_args()
}

/// Measures an operation alone, and while another thread does the same.
pub fn alone_and_beside_another(
    group: &mut BenchmarkGroup<'_, WallTime>,
    name: &str,
    parameter: impl Display,
    operation: impl Fn() + Sync,
) {
    let alone = BenchmarkId::new(format!("{name} alone"), &parameter);
    group.bench_function(alone, |bencher| bencher.iter(&operation));
    let on_two = BenchmarkId::new(format!("{name} on two threads"), &parameter);
    group.bench_function(on_two, |bencher| {
        bencher.iter_custom(|rounds| on_two_threads(rounds, &operation));
    });
}

/// Returns the time of `operations` on one thread while another thread does the same.
fn on_two_threads(operations: u64, operation: impl Fn() + Sync) -> Duration {
    let start = Barrier::new(2);
    let run = || {
        start.wait();
        let started = Instant::now();
        (0..operations).for_each(|_| operation());
        started.elapsed()
    };
    thread::scope(|scope| {
        let other = scope.spawn(run);
        let own = run();
        own.max(other.join().expect("no operation panics"))
    })
}

/// Returns the time of `operations` while another thread writes without a pause.
pub fn beside_writer(operations: u64, operation: impl Fn(), write: impl Fn() + Sync) -> Duration {
    let (start, over) = (Barrier::new(2), AtomicBool::new(false));
    thread::scope(|scope| {
        scope.spawn(|| {
            start.wait();
            while !over.load(Ordering::Relaxed) {
                write();
            }
        });
        start.wait();
        let started = Instant::now();
        (0..operations).for_each(|_| operation());
        let elapsed = started.elapsed();
        over.store(true, Ordering::Relaxed);
        elapsed
    })
}
