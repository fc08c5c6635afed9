//! Reduces a failing plan: leaves out callers, faults and events as long as it still fails.

use crate::plan::{Action, Plan};
use crate::world;
use std::time::{Duration, Instant};

/// Longest time spent on a reduction.
const BUDGET: Duration = Duration::from_secs(60);

/// Returns a smaller plan that violates the same invariant.
pub fn shrink(plan: &Plan, invariant: &str) -> Plan {
    let started = Instant::now();
    let fails = |candidate: &Plan| {
        let report = world::run(candidate, false);
        report.violation.is_some_and(|(name, _)| name == invariant)
    };
    let mut best = plan.clone();
    let mut chunk = best.steps.len().div_ceil(2).max(1);
    loop {
        let mut has_shrunk = false;
        let mut begin = 0;
        while begin < best.steps.len() && started.elapsed() < BUDGET {
            let mut candidate = best.clone();
            let end = (begin + chunk).min(candidate.steps.len());
            candidate.steps.drain(begin..end);
            if fails(&candidate) {
                best = candidate;
                has_shrunk = true;
            } else {
                begin = end;
            }
        }
        if chunk == 1 && !has_shrunk || started.elapsed() >= BUDGET {
            break;
        }
        chunk = chunk.div_ceil(2).max(1);
    }
    shrink_callers(&mut best, &fails);
    best
}

/// Leaves out the last events of callers.
fn shrink_callers(best: &mut Plan, fails: &impl Fn(&Plan) -> bool) {
    for index in 0..best.steps.len() {
        loop {
            let mut candidate = best.clone();
            let Action::Call(caller) = &mut candidate.steps[index].action else {
                break;
            };
            if caller.events.pop().is_none() || !fails(&candidate) {
                break;
            }
            *best = candidate;
        }
    }
}
