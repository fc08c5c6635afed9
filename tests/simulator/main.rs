//! Deterministic simulation of whole pools and agents: see docs/testing.md.
//!
//! A seed stands for a pool, agents, callers and faults ([`plan`]). All of it runs on one thread in
//! virtual time, over links in memory ([`network`]), with the library's own connections, sessions,
//! listener, dialer and maintenance. [`invariants`] are checked all the time.

#![allow(unreachable_pub, reason = "a test has no users")]

mod agents;
mod bytes;
mod callers;
mod directive;
mod generate;
mod invariants;
mod ledger;
mod network;
mod panics;
mod plan;
mod raw;
mod shrink;
mod simulation;
mod steps;
mod trace;
mod watchdog;
mod world;

use plan::Plan;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

/// Returns a number from the environment.
fn setting(name: &str) -> Option<u64> {
    let value = std::env::var(name).ok()?;
    Some(
        value
            .parse()
            .unwrap_or_else(|_| panic!("{name} is not a number: {value}")),
    )
}

/// Runs one seed. Returns a report of the failure, if there is one.
fn failure(seed: u64) -> Option<String> {
    let plan = Plan::of(seed);
    let report = watchdog::guarded(seed, || world::run(&plan, false));
    let (invariant, text) = report.violation?;
    if setting("TOLLGATE_SHRINK") == Some(0) {
        return Some(format!("seed {seed} violates {invariant}: {text}"));
    }
    let smaller = shrink::shrink(&plan, &invariant);
    let report = world::run(&smaller, true);
    let trace = report.trace.join("\n");
    Some(format!(
        "seed {seed} violates {invariant}: {text}\n\n{}\n{trace}\n\
         Repeat it with: scripts/simulate --seed {seed}",
        summary(&smaller),
    ))
}

fn summary(plan: &Plan) -> String {
    format!(
        "reduced to {} steps; {:?}\n{:?}\n{:?}\n{} runtimes",
        plan.steps.len(),
        plan.pool,
        plan.network,
        plan.agents,
        plan.runtimes
    )
}

/// Runs `TOLLGATE_SEEDS` seeds (500) from `TOLLGATE_FIRST_SEED` (0), or all of the 500 on two
/// threads.
#[test]
fn seeds() {
    panics::watch();
    let first = setting("TOLLGATE_FIRST_SEED").unwrap_or(0);
    let count = setting("TOLLGATE_SEEDS").unwrap_or(500);
    let threads = setting("TOLLGATE_THREADS").unwrap_or(2);
    let max_failures = setting("TOLLGATE_FAILURES").unwrap_or(1);
    let next = AtomicU64::new(0);
    let failures = Mutex::new(Vec::new());
    let started = Instant::now();
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                loop {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    if number >= count {
                        return;
                    }
                    if let Some(failure) = failure(first + number) {
                        // At once, in case that the run is ended before it is done.
                        eprintln!("{}", failure.lines().next().unwrap_or_default());
                        let mut failures = failures.lock().expect("no panics");
                        failures.push(failure);
                        if failures.len() as u64 >= max_failures {
                            next.store(count, Ordering::Relaxed);
                        }
                    }
                }
            });
        }
    });
    println!("{count} seeds from {first} in {:?}", started.elapsed());
    let failures = failures.into_inner().expect("no panics");
    assert!(failures.is_empty(), "{}", failures.join("\n\n"));
}

/// Runs the one seed in `TOLLGATE_SEED`, and prints its trace.
#[test]
#[ignore = "scripts/simulate --seed runs it"]
fn one_seed() {
    panics::watch();
    let seed = setting("TOLLGATE_SEED").expect("TOLLGATE_SEED is set");
    let plan = Plan::of(seed);
    let report = watchdog::guarded(seed, || world::run(&plan, true));
    println!("{}\n{}", summary(&plan), report.trace.join("\n"));
    println!("{} calls, hash {:016x}", report.calls, report.hash);
    if let Some(failure) = failure(seed) {
        panic!("{failure}");
    }
}

/// Sends damaged byte streams to sessions, pools and listeners: `TOLLGATE_STREAMS` (1,000) to each,
/// from `TOLLGATE_FIRST_SEED`.
#[test]
fn damaged_streams_harm_nothing_else() {
    panics::watch();
    let first = setting("TOLLGATE_FIRST_SEED").unwrap_or(0);
    let count = setting("TOLLGATE_STREAMS").unwrap_or(1000);
    let targets = [
        bytes::Target::Session,
        bytes::Target::Pool,
        bytes::Target::Listener,
    ];
    for seed in first..first + count {
        for target in targets {
            if let Err(text) = watchdog::guarded(seed, || bytes::run(target, seed)) {
                panic!("seed {seed}, {target:?}: {text}");
            }
        }
    }
}

/// Checks that a seed has the same trace whatever ran before, and in every process.
#[test]
fn a_seed_has_one_trace() {
    panics::watch();
    for seed in [2, 5, 8, 9, 11, 12, 14] {
        let plan = Plan::of(seed);
        let (first, second) = (world::run(&plan, true), world::run(&plan, true));
        let mut pairs = first.trace.iter().zip(&second.trace);
        let differing = pairs.find(|(one, other)| one != other);
        assert_eq!(differing, None, "seed {seed}");
        assert_eq!(first.hash, second.hash, "seed {seed}");
        assert_eq!(hash_in_new_process(seed), first.hash, "seed {seed}");
    }
}

/// In seed 20 a runtime ends with calls on it. A second run in one process may end them in another
/// order, so only new processes are compared.
#[test]
fn a_seed_in_which_a_runtime_ends_has_one_trace_in_new_processes() {
    assert_eq!(hash_in_new_process(20), hash_in_new_process(20));
}

/// Returns the hash of the trace that a seed has in a process of its own.
fn hash_in_new_process(seed: u64) -> u64 {
    let output = std::process::Command::new(std::env::current_exe().expect("this program"))
        .args(["--exact", "one_seed", "--ignored", "--nocapture"])
        .env("TOLLGATE_SEED", seed.to_string())
        .output()
        .expect("this program runs");
    let output = String::from_utf8_lossy(&output.stdout).into_owned();
    let hash = output.split_once("hash ").map(|(_, rest)| &rest[..16]);
    let hash = hash.unwrap_or_else(|| panic!("seed {seed} printed no hash:\n{output}"));
    u64::from_str_radix(hash, 16).expect("a hash")
}
