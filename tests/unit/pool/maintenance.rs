use super::ProbeGuard;
use crate::pool::AgentPoolConfig;
use crate::pool::fixture::Fixture;

fn fixture() -> Fixture {
    let config = AgentPoolConfig::default().connections_per_agent(2);
    Fixture::with_config(&["agent"], config)
}

#[test]
fn a_closed_connection_leaves_the_snapshot_and_is_missing() {
    let fixture = fixture();
    let agent = fixture.agent("agent").0;
    assert!(!agent.is_incomplete(&agent.snapshot(), None));
    assert_eq!(agent.missing(None), None);
    let connections = fixture.connections("agent");
    connections[0].close();
    assert!(agent.is_incomplete(&agent.snapshot(), None));
    assert!(agent.missing(None).is_some());
    let left = fixture.connections("agent");
    assert!(left.len() == 1 && std::sync::Arc::ptr_eq(&left[0], &connections[1]));
}

#[test]
fn nothing_is_missing_to_an_agent_that_was_removed() {
    let fixture = fixture();
    let agent = fixture.agent("agent").0;
    fixture.connections("agent")[0].close();
    fixture.pool.remove("agent").expect("a known agent");
    assert_eq!(agent.missing(None), None);
    assert!(agent.snapshot().connections().is_empty());
}

#[test]
fn work_that_is_in_progress_is_not_started_again() {
    let fixture = fixture();
    let agent = fixture.agent("agent").0;
    let guard = agent.reconnect.begin(None);
    assert!(guard.is_some() && agent.reconnect.begin(None).is_none());
    drop(guard);
    assert!(agent.reconnect.begin(None).is_some());
    let connection = &fixture.connections("agent")[0];
    let probe = ProbeGuard::of(connection);
    assert!(probe.is_some() && ProbeGuard::of(connection).is_none());
}
