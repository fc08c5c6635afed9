use super::*;
use FlowControlAction::{Pause, Resume, UpdateCapacity};

fn apply(flow: &FlowState, keys: &IdHasher, id: Option<&str>, action: FlowControlAction) {
    let mut message = FlowControl::for_all(action);
    message.correlation_id = id.map(str::to_owned);
    flow.apply(&message, keys);
}

#[test]
fn a_pause_lasts_until_the_agent_resumes() {
    let (flow, keys) = (FlowState::new(), IdHasher::default());
    let capacity = |buffer_available| UpdateCapacity { buffer_available };
    for (action, is_paused) in [
        (Pause, true),
        (Resume, false),
        (capacity(0), true),
        (capacity(1), false),
    ] {
        apply(&flow, &keys, None, action);
        assert_eq!(flow.is_paused(), is_paused, "{action:?}");
        assert_eq!(flow.check(keys.key("a")).is_err(), is_paused);
    }
}

#[test]
fn one_exchange_can_be_paused() {
    let (flow, keys) = (FlowState::new(), IdHasher::default());
    apply(&flow, &keys, Some("a"), Pause);
    assert!(flow.check(keys.key("a")).is_err() && flow.check(keys.key("b")).is_ok());
    apply(&flow, &keys, Some("a"), Resume);
    assert!(flow.check(keys.key("a")).is_ok());
}

#[test]
fn too_many_paused_exchanges_pause_the_connection() {
    let (flow, keys) = (FlowState::new(), IdHasher::default());
    let apply_to = |n: usize, action| apply(&flow, &keys, Some(&n.to_string()), action);
    for n in 0..10 * MAX_PAUSED_EXCHANGES {
        apply_to(n, Pause);
        assert_eq!(flow.is_paused(), n >= MAX_PAUSED_EXCHANGES, "{n}");
    }
    for n in 0..10 * MAX_PAUSED_EXCHANGES {
        apply_to(n, Resume);
    }
    assert!(!flow.is_paused());
}

#[test]
fn a_pause_of_too_many_exchanges_ends_as_theirs_do() {
    for (lifetime, is_paused) in [(Duration::MAX, true), (Duration::ZERO, false)] {
        let (flow, keys) = (FlowState::with_limits(0, lifetime), IdHasher::default());
        apply(&flow, &keys, Some("one too many"), Pause);
        assert_eq!(flow.is_paused(), is_paused);
    }
}
