//! The invariants, each with the sentence of docs/architecture.md (or limits.md) that it checks.

use crate::ledger::{CallEnd, FinishedCall, Ledger};
use crate::plan::Plan;
use crate::world;
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::time::Duration;
use tollgate::sim::{self, AgentView, ConnectionView, clock};
use tollgate::{AgentPool, FailureMode, FlowControlMode};

/// State that the invariants are checked against.
pub struct Observed<'a> {
    pub plan: &'a Plan,
    pub pool: &'a AgentPool,
    pub ledger: &'a Ledger,
    /// Calls that ended since the last check.
    pub finished: Vec<FinishedCall>,
    /// Operations that ended since the last check, how long they took and may take.
    pub operations: Vec<(String, Duration, Duration)>,
    pub agents: Vec<AgentView>,
    /// All connections of the pool that exist, in the snapshot or not.
    pub connections: Vec<ConnectionView>,
    pub overtaken: Vec<String>,
    /// Since when things are as they may be only for a moment.
    pub passing: &'a RefCell<Passing>,
    /// By how much the clocks of runtimes may differ.
    pub tick: Duration,
}

/// States that end at once, unless something is wrong: what they are, and since when they last.
#[derive(Debug, Default)]
pub struct Passing {
    since: BTreeMap<String, Duration>,
}

/// Longest time that such a state lasts: wake-ups may have to wait for the turn of a runtime.
const PASSING_TIME: Duration = Duration::from_millis(30);

impl Passing {
    /// Notes which states of a kind there are now. Returns one that lasts too long.
    fn update(&mut self, kind: &str, present: &[String]) -> Option<String> {
        let now = clock::since_start();
        let is_over = |key: &String| key.starts_with(kind) && !present.contains(key);
        self.since.retain(|key, _| !is_over(key));
        for key in present {
            let since = *self.since.entry(key.clone()).or_insert(now);
            if now - since > PASSING_TIME {
                return Some(format!("{key} for {:?}", now - since));
            }
        }
        None
    }
}

/// A rule that always holds, or holds once nothing happens any more.
pub struct Invariant {
    pub name: &'static str,
    pub sentence: &'static str,
    /// Returns how the rule is broken.
    pub check: fn(&Observed<'_>) -> Option<String>,
}

macro_rules! invariants {
    ($($name:ident: $sentence:literal),+ $(,)?) => {
        [$(Invariant { name: stringify!($name), sentence: $sentence, check: $name }),+]
    };
}

/// Checked all the time.
pub const ALWAYS: [Invariant; 10] = invariants![
    an_answer_reaches_its_own_call_or_none: "An answer reaches its own call or none.",
    nothing_is_allowed_unasked: "Fail closed. What does not decode is an error to its caller; never an `allow`.",
    every_call_ends_in_time: "Deadlines are checked every 5 ms while calls are pending.",
    everything_is_bounded: "Slots, wait queues, pins have limits.",
    wait_queues_are_fair: "Wait queues are fair.",
    no_wake_up_is_lost: "Its head retries whenever any connection frees a slot.",
    drains_end: "Connections that leave the snapshot are retired: they accept nothing new.",
    operations_end: "Shutdown waits for the work in progress, at most for the drain timeout.",
    calls_are_not_counted_twice: "Every call ends once and is counted once.",
    calm_changes_lose_nothing: "So nothing is lost.",
];

/// Checked once no caller has anything to do.
pub const AT_REST: [Invariant; 4] = invariants![
    nothing_is_left_over: "When the last call has ended, no slot, permit, waiter or pin is left.",
    every_call_is_counted_once: "Every call ends once and is counted once.",
    no_connection_stays_retired: "Connections that leave the snapshot are retired.",
    no_answer_is_invented: "Answers are counted once.",
];

/// Time that a call may take beyond its deadline: the interval of the checks, and rounding.
const GRACE: Duration = Duration::from_millis(8);

fn an_answer_reaches_its_own_call_or_none(observed: &Observed<'_>) -> Option<String> {
    observed.finished.iter().find_map(|call| match &call.end {
        CallEnd::Answered {
            mark: Some(mark), ..
        } if *mark != call.label => Some(format!("{} got the answer to {mark}", call.label)),
        _ => None,
    })
}

fn nothing_is_allowed_unasked(observed: &Observed<'_>) -> Option<String> {
    let pool = &observed.plan.pool;
    let may_fail_open = pool.failure_mode == FailureMode::Open
        || pool.flow_control_mode == FlowControlMode::FailOpen;
    observed.finished.iter().find_map(|call| {
        let CallEnd::Answered { mark, decision } = &call.end else {
            return None;
        };
        match mark {
            // The session itself blocks events of an exchange that is cancelled.
            None if *decision == "block" || may_fail_open => None,
            None => Some(format!("{} got {decision} from no agent", call.label)),
            Some(mark) => match observed.ledger.answer_to(mark) {
                Some(given) if given == *decision => None,
                given => Some(format!(
                    "{} got {decision}, the agent said {given:?}",
                    call.label
                )),
            },
        }
    })
}

fn every_call_ends_in_time(observed: &Observed<'_>) -> Option<String> {
    observed.finished.iter().find_map(|call| {
        if matches!(call.end, CallEnd::GivenUp) {
            // The caller dropped it, at any time.
            return None;
        }
        let took = call.ended - call.started;
        let longest = call.limit + GRACE + observed.tick * 2;
        (took > longest).then(|| format!("{} took {took:?}, at most {longest:?}", call.label))
    })
}

fn everything_is_bounded(observed: &Observed<'_>) -> Option<String> {
    let pool = &observed.plan.pool;
    let connections = observed.connections.iter().find_map(|one| {
        let is_within = one.in_flight <= one.capacity
            && one.capacity <= pool.max_concurrent.max(1)
            && one.waiting_for_slot <= pool.max_queued + 1
            && one.utilization <= 1.0;
        (!is_within).then(|| format!("{one:?}"))
    });
    connections.or_else(|| {
        let pins = sim::pins(observed.pool);
        (pins > pool.max_pins).then(|| format!("{pins} pins"))
    })
}

fn wait_queues_are_fair(observed: &Observed<'_>) -> Option<String> {
    observed.overtaken.first().cloned()
}

/// Nothing waits for a slot while one is free.
///
/// A wake-up may have to wait for the turn of a runtime, so a slot may be free whenever this looks.
/// A queue is stuck only if no call is opened meanwhile.
fn no_wake_up_is_lost(observed: &Observed<'_>) -> Option<String> {
    let has_room = |one: &ConnectionView| {
        one.is_open && one.in_flight < one.capacity && one.waiting_for_slot == 0
    };
    let bound = observed.connections.iter().filter_map(|one| {
        let has_slot = one.is_open && !one.is_paused && one.in_flight < one.capacity;
        let is_stuck = has_slot && one.waiting_for_slot > 0;
        is_stuck.then(|| {
            format!(
                "waiting connection {} after {} calls",
                one.number, one.opened
            )
        })
    });
    let free = observed.agents.iter().filter_map(|agent| {
        let mut usable = agent
            .connections
            .iter()
            .filter(|one| one.is_healthy && !one.is_paused);
        let is_stuck = agent.waiting_for_slot > 0 && usable.any(has_room);
        let opened: u64 = agent.connections.iter().map(|one| one.opened).sum();
        is_stuck.then(|| format!("waiting {} after {opened} calls", agent.id))
    });
    let stuck: Vec<_> = bound.chain(free).collect();
    observed.passing.borrow_mut().update("waiting", &stuck)
}

/// Longest time from the end of the drain timeout until the agent's connections are closed. Each
/// of them may take 100 ms to tell the agent.
const CLOSING_TIME: Duration = Duration::from_secs(2);

/// Retired connections that nothing uses are closed at once.
fn drains_end(observed: &Observed<'_>) -> Option<String> {
    let mut in_use = BTreeMap::<&str, bool>::new();
    let now = clock::since_start();
    for one in observed.connections.iter().filter(|one| one.is_open) {
        let Some(retired) = one.retired_at else {
            continue;
        };
        let drained = retired + observed.plan.pool.drain_timeout;
        if now > drained + CLOSING_TIME {
            return Some(format!("retired since {retired:?}, and open: {one:?}"));
        }
        if now > drained {
            // Its calls are being cancelled at the agent.
            continue;
        }
        let is_used = one.in_flight > 0 || one.exchanges > 0 || one.pins > 0;
        *in_use.entry(&one.agent).or_default() |= is_used;
    }
    let idle = in_use.iter().filter(|(_, is_used)| !**is_used);
    let idle: Vec<_> = idle.map(|(agent, _)| format!("drain of {agent}")).collect();
    observed.passing.borrow_mut().update("drain", &idle)
}

fn operations_end(observed: &Observed<'_>) -> Option<String> {
    observed.operations.iter().find_map(|(what, took, limit)| {
        (took > limit).then(|| format!("{what} took {took:?}, at most {limit:?}"))
    })
}

fn calls_are_not_counted_twice(observed: &Observed<'_>) -> Option<String> {
    observed.agents.iter().find_map(|agent| {
        let (made, ended) = (agent.calls.made, agent.calls.ended());
        (ended > made).then(|| format!("{}: {ended} ends of {made} calls", agent.id))
    })
}

fn calm_changes_lose_nothing(observed: &Observed<'_>) -> Option<String> {
    if !observed.plan.is_calm {
        return None;
    }
    let lost = observed.finished.iter().find(|call| {
        !world::is_answered(call) && !matches!(call.end, CallEnd::GivenUp) && call.label.len() < 8
    });
    lost.map(|call| format!("{} ended: {:?}", call.label, call.end))
}

fn nothing_is_left_over(observed: &Observed<'_>) -> Option<String> {
    let agents = observed.agents.iter().find_map(|agent| {
        let is_clean = agent.waiting_for_slot == 0
            && agent.waiting_for_resume == 0
            && !agent.is_on_trial
            && agent.calls.made == agent.calls.ended();
        (!is_clean).then(|| format!("{agent:?}"))
    });
    let connections = || {
        observed.connections.iter().find_map(|one| {
            let is_clean = one.in_flight == 0
                && one.exchanges == 0
                && one.waiting_for_slot == 0
                && one.waiting_for_resume == 0
                && (one.pins == 0 || !one.is_open)
                && one.utilization == 0.0;
            (!is_clean).then(|| format!("{one:?}"))
        })
    };
    let pins = || {
        let pins = sim::pins(observed.pool);
        (pins > 0).then(|| format!("{pins} pins"))
    };
    agents.or_else(connections).or_else(pins)
}

fn every_call_is_counted_once(observed: &Observed<'_>) -> Option<String> {
    let calls = observed.pool.metrics().snapshot().total.calls;
    if calls.made != calls.ended() {
        return Some(format!("{calls:?}"));
    }
    let seen = |kind: &str| observed.ledger.ends.get(kind).copied().unwrap_or_default();
    // Without a handle of the agent, no call is made.
    let is_exact = !observed.ledger.inexact && seen("removed") == 0;
    // A caller may give up while it waits for an earlier event, before its call begins.
    let least = observed.ledger.made - seen("given up");
    if is_exact && !(least..=observed.ledger.made).contains(&calls.made) {
        return Some(format!(
            "callers made {}, counted are {calls:?}",
            observed.ledger.made
        ));
    }
    let kinds = [
        ("answered", calls.answered),
        ("timed_out", calls.timed_out),
        ("connection_closed", calls.connection_closed),
        ("undecodable", calls.undecodable),
        ("cancelled", calls.cancelled),
        ("circuit_open", calls.circuit_open),
        ("queue_full", calls.queue_full),
        ("queue_timed_out", calls.queue_timed_out),
        ("busy", calls.busy),
        ("paused", calls.paused),
    ];
    kinds.into_iter().find_map(|(kind, counted)| {
        let seen = seen(kind);
        (seen > counted).then(|| format!("callers saw {seen} {kind}, counted are {counted}"))
    })
}

fn no_connection_stays_retired(observed: &Observed<'_>) -> Option<String> {
    let retired = observed
        .connections
        .iter()
        .find(|one| one.is_open && one.is_retired);
    retired.map(|one| format!("{one:?}"))
}

fn no_answer_is_invented(observed: &Observed<'_>) -> Option<String> {
    let total = observed.pool.metrics().snapshot().total;
    let allowed = total.failed_open + total.allowed_while_paused;
    let seen = observed.ledger.allowed_unasked;
    (seen > allowed).then(|| format!("{seen} calls were allowed unasked, counted are {allowed}"))
}
