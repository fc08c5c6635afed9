//! Adds config updates, log lines and sticky sessions to a plan.

use crate::plan::{Action, Asking, Plan, RequestedUpdate, Step, Way};
use fastrand::Rng;
use std::time::Duration;

/// Share of the requests that are known by their id which are made in sticky sessions, in percent.
const STICKY_PERCENT: u32 = 30;

impl Plan {
    /// Adds config updates and log lines.
    pub fn add_updates(&mut self, random: &mut Rng, busy: Duration) {
        let earliest = if self.is_calm { 400 } else { 20 };
        for number in 0..random.usize(0..=8) {
            let agent = random.usize(..self.agents.len());
            let action = match random.u32(..8) {
                0..=2 => Action::RequestUpdate {
                    agent,
                    number,
                    update: requested(random),
                    asking: if random.bool() {
                        Asking::Once
                    } else {
                        Asking::UntilAnswered
                    },
                },
                3..=5 => Action::Push {
                    agent,
                    number,
                    is_accepted: random.u32(..3) > 0,
                    wait_ms: [0, 0, 30, 200][random.usize(..4)],
                },
                _ => Action::Log {
                    agent,
                    number,
                    lines: if self.is_calm {
                        random.usize(1..=5)
                    } else {
                        random.usize(1..=90)
                    },
                },
            };
            let at = Duration::from_millis(random.u64(earliest..busy.as_millis() as u64));
            self.steps.push(Step { at, action });
        }
    }

    /// Makes some callers use sticky sessions.
    pub fn add_sticky_sessions(&mut self, random: &mut Rng) {
        for step in &mut self.steps {
            let Action::Call(caller) = &mut step.action else {
                continue;
            };
            let may_be_sticky = caller.way == Way::ById && caller.shared_id.is_none();
            if may_be_sticky && random.u32(..100) < STICKY_PERCENT {
                caller.way = Way::Sticky;
            }
        }
    }
}

fn requested(random: &mut Rng) -> RequestedUpdate {
    match random.u32(..3) {
        0 => RequestedUpdate::Reload,
        1 => RequestedUpdate::RejectedList,
        _ => RequestedUpdate::AcceptedList,
    }
}
