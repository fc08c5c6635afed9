//! Drains end when the last use of their connections does.
//!
//! The clock is paused, so it stands still as long as a task is ready to run: a drain that waited
//! for a timer would not end.

use tokio::runtime::Handle;
use tokio::task::yield_now;
use tokio::time::{Duration, Instant};
use tollgate::AgentPoolConfig;
use tollgate::bench::{Fixture, IdleConnection};

async fn let_others_run() {
    for _ in 0..10 {
        yield_now().await;
    }
}

fn are_open(connections: &[IdleConnection]) -> bool {
    connections.iter().all(|connection| connection.is_open())
}

/// Removes the agent, checks that its connections stay open until `release` is called, and then
/// that they are closed at once.
async fn expect_drain_ends_by(fixture: &Fixture, release: impl FnOnce()) {
    let connections = fixture.idle_connections("agent");
    let started = Instant::now();
    fixture.pool.remove("agent").unwrap();
    let_others_run().await;
    assert!(are_open(&connections), "closed while in use");
    release();
    let_others_run().await;
    let are_closed = connections.iter().all(|connection| !connection.is_open());
    assert!(are_closed, "open although unused");
    assert_eq!(started.elapsed(), Duration::ZERO);
}

#[tokio::test(start_paused = true)]
async fn removing_the_last_pin_ends_a_drain() {
    let fixture = Fixture::new(&["agent", "other"]);
    let (one, two) = (
        fixture.idle_connections("agent"),
        fixture.idle_connections("other"),
    );
    // Neither the pins of another agent nor earlier pins of the same id count.
    fixture.pins().pin("replaced", &one[0]);
    fixture.pins().pin("replaced", &one[1]);
    fixture.pins().pin("replaced", &two[0]);
    fixture.pins().pin("other", &two[0]);
    fixture.pins().unpin("replaced", "agent");
    fixture.pins().unpin("replaced", "agent");
    fixture.pins().pin("kept", &one[1]);
    fixture.pins().pin("kept", &two[1]);
    let clear = || fixture.pool.unpin("kept");
    expect_drain_ends_by(&fixture, clear).await;
    assert!(are_open(&two));
    let left = fixture.pins().count();
    assert_eq!(left, 2, "only the pin that was kept is gone");
}

#[tokio::test(start_paused = true)]
async fn expired_pins_end_a_drain() {
    let config = AgentPoolConfig::default().correlation_affinity_ttl(Duration::ZERO);
    let fixture = Fixture::with_config(&["agent"], config);
    fixture
        .pins()
        .pin("a", &fixture.idle_connections("agent")[0]);
    fixture
        .pins()
        .pin("b", &fixture.idle_connections("agent")[1]);
    let expire = || {
        let pins = fixture.pins();
        // Both ways in which an entry that has expired is found. Expiry counts whole
        // milliseconds of real time.
        while pins.is_pinned("a", "agent") {}
        while pins.count() > 0 {
            pins.remove_expired();
        }
    };
    expect_drain_ends_by(&fixture, expire).await;
}

#[tokio::test(start_paused = true)]
async fn pins_that_find_the_map_full_are_not_counted() {
    let config = AgentPoolConfig::default().max_correlation_affinities(1);
    let fixture = Fixture::with_config(&["agent"], config);
    fixture
        .pins()
        .pin("a", &fixture.idle_connections("agent")[0]);
    fixture
        .pins()
        .pin("b", &fixture.idle_connections("agent")[1]);
    assert_eq!(fixture.pins().rejections(), 1);
    let unpin = || fixture.pins().unpin("a", "agent");
    expect_drain_ends_by(&fixture, unpin).await;
}

#[tokio::test(start_paused = true)]
async fn dropping_the_last_exchange_ends_a_drain() {
    let fixture = Fixture::new(&["agent"]);
    let exchange = fixture.agent("agent").exchange("c-1").unwrap();
    expect_drain_ends_by(&fixture, || drop(exchange)).await;
}

#[tokio::test(start_paused = true)]
async fn the_end_of_the_last_call_ends_a_drain() {
    let fixture = Fixture::new(&["agent"]);
    let call = fixture.open("agent", 0, "c-1");
    expect_drain_ends_by(&fixture, || drop(call)).await;
}

#[tokio::test(start_paused = true)]
async fn a_lost_connection_ends_a_drain() {
    let fixture = Fixture::new(&["agent"]);
    let connections = fixture.idle_connections("agent");
    fixture.pins().pin("a", &connections[0]);
    let exchange = connections[1].bind();
    fixture.pool.remove("agent").unwrap();
    let_others_run().await;
    let tasks = || Handle::current().metrics().num_alive_tasks();
    assert_eq!(tasks(), 1, "ended while in use");
    connections.iter().for_each(|connection| connection.close());
    let_others_run().await;
    assert_eq!(tasks(), 0, "waits for lost connections");
    drop(exchange);
}

#[test]
fn a_drain_that_ends_with_its_runtime_closes_the_connections() {
    let fixture = Fixture::new(&["agent"]);
    let connections = fixture.idle_connections("agent");
    let exchange = fixture.agent("agent").exchange("c-1").unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .build()
        .unwrap();
    runtime
        .block_on(async { fixture.pool.remove("agent") })
        .unwrap();
    assert!(are_open(&connections), "closed while in use");
    drop(runtime);
    assert!(connections.iter().all(|connection| !connection.is_open()));
    drop(exchange);
}

#[tokio::test(start_paused = true)]
async fn drains_that_wait_for_different_things_do_not_block_each_other() {
    let fixture = Fixture::new(&["agent"]);
    let connections = fixture.idle_connections("agent");
    fixture.pins().pin("a", &connections[0]);
    let exchange = fixture.agent("agent").exchange("c-1").unwrap();
    let pool = fixture.pool.clone();
    let shutdown = tokio::spawn(async move { pool.shutdown().await });
    let_others_run().await;
    fixture.pool.remove("agent").unwrap();
    let_others_run().await;
    drop(exchange);
    let_others_run().await;
    assert!(shutdown.is_finished(), "the shutdown waits for a pin");
    assert!(are_open(&connections), "the removal does not");
    fixture.pool.unpin("a");
    let_others_run().await;
    assert!(!connections[0].is_open());
}

/// Each call of `pin`, `unpin` and the like may meet another thread's change of the same id.
#[test]
fn pins_are_counted_exactly_under_concurrent_changes() {
    let config = AgentPoolConfig::default()
        .max_correlation_affinities(50)
        .correlation_affinity_ttl(Duration::from_millis(1));
    let fixture = Fixture::with_config(&["agent", "other"], config);
    let agents = ["agent", "other"].map(|id| (id, fixture.idle_connections(id)));
    std::thread::scope(|scope| {
        for seed in 0..4_u64 {
            let (pool, pins, agents) = (fixture.pool.clone(), fixture.pins(), &agents);
            scope.spawn(move || {
                let mut random = fastrand::Rng::with_seed(seed);
                for _ in 0..20_000 {
                    let id = random.u32(..100).to_string();
                    let (agent, connections) = &agents[random.usize(..2)];
                    match random.u32(..5) {
                        0 => pool.unpin(&id),
                        1 => pins.unpin(&id, agent),
                        2 => drop(pins.is_pinned(&id, agent)),
                        3 if random.u32(..100) == 0 => pins.remove_expired(),
                        _ => pins.pin(&id, &connections[random.usize(..2)]),
                    }
                }
            });
        }
    });
    let pins = || {
        let connections = agents.iter().flat_map(|(_, connections)| connections);
        connections
            .map(|connection| connection.pins())
            .sum::<usize>()
    };
    let ids = fixture.pins().count();
    assert!(ids <= 50, "more than the map may hold");
    assert!(pins() <= 2 * ids, "an id has at most one pin to each agent");
    for id in 0..100 {
        fixture.pool.unpin(&id.to_string());
    }
    assert_eq!((pins(), fixture.pins().count()), (0, 0));
}
