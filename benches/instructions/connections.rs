use crate::OPERATIONS;
use crate::common::{CORRELATION_ID, idle_connection};
use iai_callgrind::{library_benchmark, library_benchmark_group};
use std::hint::black_box;
use tollgate::bench::{CallMetrics, IdleConnection, PendingCalls, Ring};

/// Pending calls of a connection by default.
const CAPACITY: usize = 100;

/// Placeholder for the hash of the correlation id. It differs from the keys of other pending calls.
const KEY: u64 = 0x0123_4567_89ab_cdef;

fn pending(mut calls: PendingCalls, others: u64) -> PendingCalls {
    calls.hold(others);
    assert!(calls.take_and_complete(CORRELATION_ID, KEY));
    calls
}

#[library_benchmark]
#[bench::matched_by_stream_alone(pending(PendingCalls::matched_by_stream(CAPACITY), 0))]
#[bench::matched_by_stream_beside_64(pending(PendingCalls::matched_by_stream(CAPACITY), 64))]
#[bench::matched_by_id_alone(pending(PendingCalls::matched_by_id(CAPACITY), 0))]
#[bench::matched_by_id_beside_64(pending(PendingCalls::matched_by_id(CAPACITY), 64))]
fn slot_take_and_complete(mut calls: PendingCalls) -> PendingCalls {
    for _ in 0..OPERATIONS {
        assert!(calls.take_and_complete(black_box(CORRELATION_ID), black_box(KEY)));
    }
    calls
}

/// Returns a ring in which every buffer was used once.
fn warm_ring() -> Ring {
    let ring = Ring::new(64);
    while ring.push(&FRAME) {}
    assert!(ring.drain());
    ring
}

const FRAME: [u8; 700] = [7; 700];

#[library_benchmark]
#[bench::one_frame(warm_ring())]
fn ring_push_and_drain(ring: Ring) -> Ring {
    for _ in 0..OPERATIONS {
        assert!(ring.push(black_box(&FRAME)));
        assert!(ring.drain());
    }
    ring
}

#[library_benchmark]
#[bench::batches_of_50(warm_ring())]
fn ring_push_and_drain_many(ring: Ring) -> Ring {
    for _ in 0..OPERATIONS / 50 {
        for _ in 0..50 {
            assert!(ring.push(black_box(&FRAME)));
        }
        assert!(ring.drain());
    }
    ring
}

fn unpaused() -> IdleConnection {
    let connection = idle_connection();
    assert!(connection.check_flow(CORRELATION_ID));
    connection
}

fn another_paused() -> IdleConnection {
    let connection = unpaused();
    connection.pause("another");
    connection
}

#[library_benchmark]
#[bench::nothing_paused(unpaused())]
#[bench::another_exchange_paused(another_paused())]
fn flow_check(connection: IdleConnection) -> IdleConnection {
    for _ in 0..OPERATIONS {
        assert!(connection.check_flow(black_box(CORRELATION_ID)));
    }
    connection
}

fn warm_metrics() -> CallMetrics {
    let metrics = CallMetrics::default();
    metrics.record();
    metrics
}

#[library_benchmark]
#[bench::answered_call(warm_metrics())]
fn metrics_record(metrics: CallMetrics) -> CallMetrics {
    for _ in 0..OPERATIONS {
        black_box(&metrics).record();
    }
    metrics
}

library_benchmark_group!(
    name = connection_parts;
    benchmarks =
        slot_take_and_complete,
        ring_push_and_drain,
        ring_push_and_drain_many,
        flow_check,
        metrics_record
);
