//! Deterministic simulation of whole pools and agents: see docs/testing.md.
//!
//! A seed stands for a pool, agents, callers and faults ([`plan`]). All of it runs on one thread in
//! virtual time, over links in memory ([`network`]), with the library's own connections, sessions,
//! listener, dialer and maintenance. [`invariants`] are checked all the time.

#![allow(unreachable_pub, reason = "a test has no users")]

mod agents;
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
mod sticky;
mod trace;
mod updates;
mod watchdog;
mod world;

use plan::Plan;
use std::process::Command;
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

/// Seeds that one process runs.
const CHUNK: u64 = 25;

/// Runs `TOLLGATE_SEEDS` seeds (250) from `TOLLGATE_FIRST_SEED` (0), in `TOLLGATE_PROCESSES`
/// processes (2) at once. The processes are for speed, and threads would not do: the order in which
/// the tasks of a runtime end depends on their ids, which are counted for the whole process.
#[test]
fn seeds() {
    let first = setting("TOLLGATE_FIRST_SEED").unwrap_or(0);
    let count = setting("TOLLGATE_SEEDS").unwrap_or(250);
    let processes = setting("TOLLGATE_PROCESSES").unwrap_or(2);
    let max_failures = setting("TOLLGATE_FAILURES").unwrap_or(1);
    let next = AtomicU64::new(0);
    let failures = Mutex::new(Vec::new());
    let started = Instant::now();
    std::thread::scope(|scope| {
        for _ in 0..processes {
            scope.spawn(|| {
                loop {
                    let begin = next.fetch_add(CHUNK, Ordering::Relaxed);
                    if begin >= count {
                        return;
                    }
                    let chunk = CHUNK.min(count - begin);
                    if let Err(output) = run_in_new_process(first + begin, chunk) {
                        // At once, in case that the run is ended before it is done.
                        eprintln!("{output}");
                        let mut failures = failures.lock().expect("no panics");
                        failures.push(output);
                        if failures.len() as u64 >= max_failures {
                            next.store(count, Ordering::Relaxed);
                        }
                    }
                }
            });
        }
    });
    println!("{count} seeds from {first} in {:?}", started.elapsed());
    let failures = failures.into_inner().expect("no panics").len();
    assert_eq!(failures, 0, "processes that found a violation");
}

/// Runs some seeds in a process of their own. Returns its output if one fails.
fn run_in_new_process(first: u64, count: u64) -> Result<(), String> {
    let output = this_program("seeds_of_a_process")
        .env("TOLLGATE_FIRST_SEED", first.to_string())
        .env("TOLLGATE_SEEDS", count.to_string())
        .output()
        .expect("this program runs");
    if output.status.success() {
        return Ok(());
    }
    let text = [output.stdout, output.stderr].concat();
    Err(String::from_utf8_lossy(&text).into_owned())
}

/// Returns the command that runs one ignored test of this program.
fn this_program(test: &str) -> Command {
    let mut command = Command::new(std::env::current_exe().expect("this program"));
    command.args(["--exact", test, "--ignored", "--nocapture"]);
    command
}

/// Runs seeds until one fails.
#[test]
#[ignore = "`seeds` runs it in processes of its own"]
fn seeds_of_a_process() {
    panics::watch();
    let first = setting("TOLLGATE_FIRST_SEED").expect("TOLLGATE_FIRST_SEED is set");
    let count = setting("TOLLGATE_SEEDS").expect("TOLLGATE_SEEDS is set");
    let failure = (first..first + count).find_map(failure);
    assert!(failure.is_none(), "{}", failure.unwrap_or_default());
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

/// Checks that a seed has the same trace whatever ran before, and in every process. In seed 20 a
/// runtime ends with calls on it.
#[test]
fn a_seed_has_one_trace() {
    panics::watch();
    for seed in [2, 5, 8, 9, 11, 12, 14, 20] {
        let plan = Plan::of(seed);
        let run = || watchdog::guarded(seed, || world::run(&plan, true));
        let (first, second) = (run(), run());
        let mut pairs = first.trace.iter().zip(&second.trace);
        let differing = pairs.find(|(one, other)| one != other);
        assert_eq!(differing, None, "seed {seed}");
        assert_eq!(first.hash, second.hash, "seed {seed}");
        assert_eq!(hash_in_new_process(seed), first.hash, "seed {seed}");
    }
}

/// Returns the hash of the trace that a seed has in a process of its own.
fn hash_in_new_process(seed: u64) -> u64 {
    let output = this_program("one_seed")
        .env("TOLLGATE_SEED", seed.to_string())
        .output()
        .expect("this program runs");
    let output = String::from_utf8_lossy(&output.stdout).into_owned();
    let hash = output.split_once("hash ").map(|(_, rest)| &rest[..16]);
    let hash = hash.unwrap_or_else(|| panic!("seed {seed} printed no hash:\n{output}"));
    u64::from_str_radix(hash, 16).expect("a hash")
}
