//! Connections are chosen by the strategy, their load and their state.

use LoadBalanceStrategy::{HealthBased, LeastConnections, Random, RoundRobin};
use tollgate::bench::Fixture;
use tollgate::{AgentPoolConfig, LoadBalanceStrategy};

const STRATEGIES: [LoadBalanceStrategy; 4] = [RoundRobin, LeastConnections, HealthBased, Random];

/// An agent with two connections of two slots each.
fn fixture() -> Fixture {
    let config = AgentPoolConfig::default().max_concurrent_per_connection(2);
    Fixture::with_config(&["agent"], config)
}

/// Chooses for an exchange. Returns the position of the connection.
fn choose(
    fixture: &Fixture,
    strategy: LoadBalanceStrategy,
    correlation_id: &str,
) -> Result<usize, String> {
    fixture.choose("agent", strategy, correlation_id)
}

fn expect_none(fixture: &Fixture, reason: &str) {
    assert_eq!(choose(fixture, RoundRobin, "c"), Err(reason.to_owned()));
}

#[test]
fn connections_take_turns() {
    let fixture = fixture();
    let chosen = [0; 4].map(|_| choose(&fixture, RoundRobin, "c"));
    assert_eq!(chosen, [Ok(0), Ok(1), Ok(0), Ok(1)]);
}

#[test]
fn a_free_slot_is_preferred() {
    for strategy in STRATEGIES {
        let fixture = fixture();
        let _calls = [fixture.open("agent", 0, "a"), fixture.open("agent", 0, "b")];
        let chosen = [0; 8].map(|_| choose(&fixture, strategy, "c").unwrap());
        assert_eq!(chosen, [1; 8], "{strategy:?}");
    }
}

#[test]
fn fewer_calls_are_preferred() {
    for strategy in [LeastConnections, HealthBased] {
        let fixture = fixture();
        let _call = fixture.open("agent", 0, "a");
        let chosen = [0; 4].map(|_| choose(&fixture, strategy, "c").unwrap());
        assert_eq!(chosen, [1; 4], "{strategy:?}");
    }
}

#[test]
fn a_degraded_agent_is_chosen_rarely() {
    for (strategy, expected) in [(RoundRobin, 4), (LeastConnections, 0), (HealthBased, 0)] {
        let fixture = fixture();
        fixture.idle_connections("agent")[0].degrade();
        let chosen = [0; 32].map(|_| choose(&fixture, strategy, "c"));
        let degraded = chosen.iter().filter(|chosen| **chosen == Ok(0)).count();
        assert_eq!(degraded, expected, "{strategy:?}");
    }
}

#[test]
fn an_unanswered_event_of_the_exchange_excludes_its_connection() {
    let fixture = fixture();
    let first = fixture.open("agent", 0, "c");
    let chosen = [0; 4].map(|_| choose(&fixture, RoundRobin, "c").unwrap());
    assert_eq!(chosen, [1; 4]);
    let _second = fixture.open("agent", 1, "c");
    expect_none(&fixture, "Busy");
    drop(first);
    // Its answer may still arrive, and could not be told apart.
    assert_eq!(choose(&fixture, RoundRobin, "c"), Ok(0));
}

#[test]
fn the_reason_for_no_connection_is_returned() {
    let fixture = fixture();
    let connections = fixture.idle_connections("agent");
    connections[0].close();
    assert_eq!(choose(&fixture, RoundRobin, "c"), Ok(1));
    connections[1].close();
    expect_none(&fixture, "Unavailable");
    connections[1].retire();
    expect_none(&fixture, "ConnectionClosed");
}
