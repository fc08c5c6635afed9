//! Tests of the budgets themselves: each notices one allocation too many.

#![allow(clippy::unwrap_used, reason = "a failure here fails the test")]

mod support;

use std::hint::black_box;
use support::{Allocations, Breach, Budget, Counting, EVENTS, Flavour};

/// Runs events that allocate `each` times, and makes `more` allocations in all beside them.
async fn events(each: u64, more: u64) -> u64 {
    let allocate = |times| (0..times).for_each(|_| drop(black_box(Box::new(1_u8))));
    for _ in 0..EVENTS {
        allocate(each);
        tokio::task::yield_now().await;
    }
    allocate(more);
    EVENTS
}

fn check(budget: Budget, each: u64, more: u64) -> Result<(), Breach> {
    let counting = Counting::begin();
    Flavour::CurrentThread.runtime().block_on(async {
        events(0, 0).await;
        budget.check(counting.during(events(each, more)).await)
    })
}

#[test]
fn zero_budget_notices_one_allocation() {
    assert!(check(Budget::NONE, 0, 0).is_ok());
    assert!(check(Budget::NONE, 0, 1).is_err());
}

#[test]
fn nonzero_budget_notices_one_more_allocation() {
    for budget in [Budget::per_event(7), Budget::per_1000(7_000)] {
        assert!(check(budget, 7, 0).is_ok());
        assert!(check(budget, 7, 1).is_err());
    }
    let some = Budget::per_1000(20);
    let all = 20 * EVENTS / 1_000;
    assert!(check(some, 0, all).is_ok());
    let breach = check(some, 0, all + 1).unwrap_err().to_string();
    let expected = "61 allocations of 61 bytes for 3000 events, where 20 per 1,000 are allowed";
    assert_eq!(breach, expected);
}

#[test]
fn loose_budget_is_detected() {
    let made = |count| Allocations {
        events: EVENTS,
        count,
        bytes: 0,
    };
    assert!(Budget::NONE.notices_more(made(0)));
    assert!(Budget::per_event(7).notices_more(made(7 * EVENTS)));
    assert!(!Budget::per_event(7).notices_more(made(6 * EVENTS)));
    assert!(!Budget::per_event(1).notices_more(made(0)));
}
