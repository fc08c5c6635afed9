//! Keeps the events of an HTTP request on one connection: with a sharded map, with tollgate's map,
//! and with an `Exchange`.

use crate::common::{Allowing, alone_and_beside_another};
use crate::zentinel::{Affinities, Sharded};
use criterion::Criterion;
use std::cell::Cell;
use std::hint::black_box;
use tollgate::bench::{InMemory, agent_name};
use tollgate::{Agent, AgentPoolConfig};

/// Events of a request after its headers: three body chunks and its completion.
const LATER_EVENTS: usize = 4;

/// Other exchanges in progress.
const OTHERS: usize = 1_000;

/// Measures pinning an exchange, finding its connection for each later event, and unpinning it.
pub(crate) fn affinity(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("affinity");
    let memory = InMemory::new(1, AgentPoolConfig::default(), Allowing);
    let (agent, connection) = (agent_name(0), Sharded::new(1).first().connection());

    let sharded = Affinities::default();
    let in_dash_map = |id: &str| {
        sharded.store(id, &connection);
        for _ in 0..LATER_EVENTS {
            black_box(sharded.look_up(id));
        }
        sharded.clear(id);
    };
    let affinities = memory.affinities();
    let in_papaya = |id: &str| {
        affinities.store(id);
        for _ in 0..LATER_EVENTS {
            black_box(affinities.look_up(id));
        }
        affinities.clear(id);
    };
    // This includes choosing a connection, which the others do not.
    let agent = memory.pool().agent(&agent).expect("an agent");
    let in_exchange = |id: &str| with_exchange(&agent, id);

    for other in 0..OTHERS {
        sharded.store(&format!("another-{other}"), &connection);
        affinities.store(&format!("another-{other}"));
    }
    let mut measure = |name: &str, way: &(dyn Fn(&str) + Sync)| {
        let later_events = format!("{LATER_EVENTS} later events");
        alone_and_beside_another(&mut group, name, later_events, || with_fresh_id(way));
    };
    measure("DashMap", &in_dash_map);
    measure("papaya", &in_papaya);
    measure("Exchange with choice", &in_exchange);
}

fn with_exchange(agent: &Agent, id: &str) {
    let exchange = agent.exchange(id).expect("a connection");
    for _ in 0..LATER_EVENTS {
        black_box(&exchange);
    }
}

/// Calls `way` with an id like a UUID that is new on this thread.
fn with_fresh_id(way: &(dyn Fn(&str) + Sync)) {
    thread_local! {
        static NEXT: Cell<u64> = Cell::new(fastrand::u64(..));
    }
    let number = NEXT.replace(NEXT.get().wrapping_add(1));
    let mut id = *b"0f8fad5b-d9cb-469f-a165-708677289500";
    for (digit, byte) in id[20..].iter_mut().enumerate() {
        *byte = b"0123456789abcdef"[(number >> (4 * digit)) as usize % 16];
    }
    way(str::from_utf8(&id).expect("ASCII"));
}
