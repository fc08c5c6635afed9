//! The three benchmarks that the performance roadmap of `zentinel-agent-protocol` names.

mod common;

use common::{Allowing, CORRELATION_ID, SocketAgent, request_headers};
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use futures_util::future::join_all;
use std::hint::black_box;
use std::time::{Duration, Instant};
use tokio::runtime::{Builder, Runtime};
use tollgate::bench::{InMemory, choose};
use tollgate::{Agent, AgentPoolConfig, BodyChunk, Bytes, Encoding, RequestBodyChunk};

/// Measures choosing a connection, for each agent in turn.
fn select_connection(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("select_connection");
    for agents in [1, 10, 100, 1_000] {
        let config = AgentPoolConfig::default()
            // Saves memory with thousands of connections and does not affect the choice.
            .max_concurrent_per_connection(8);
        let memory = InMemory::new(agents, config, Allowing);
        let agents_in_turn = memory.pool().agents();
        let mut agents_in_turn = agents_in_turn.iter().cycle();
        group.bench_function(BenchmarkId::from_parameter(agents), |bencher| {
            bencher.iter(|| {
                let agent = agents_in_turn.next().expect("agents without end");
                choose(agent, black_box(CORRELATION_ID))
            });
        });
    }
}

/// Measures calls over a real socket to an agent on another thread.
fn send_request_headers_uds(criterion: &mut Criterion) {
    let agent = SocketAgent::start();
    let runtime = current_thread();
    let mut group = criterion.benchmark_group("send_request_headers_uds");
    for (name, encoding) in [
        ("message_pack", Encoding::MessagePack),
        ("json", Encoding::Json),
    ] {
        let (_pool, agent) = runtime.block_on(agent.pool(encoding));
        for headers in [10, 40] {
            let event = request_headers(headers);
            let id = BenchmarkId::new(name, headers);
            group.throughput(Throughput::Elements(1));
            group.bench_function(id, |bencher| {
                bencher.iter_custom(|calls| runtime.block_on(call(&agent, &event, 1, calls)));
            });
        }
        let event = request_headers(10);
        group.throughput(Throughput::Elements(64));
        group.bench_function(BenchmarkId::new(name, "10 by 64 callers"), |bencher| {
            bencher.iter_custom(|rounds| runtime.block_on(call(&agent, &event, 64, rounds)));
        });
    }
}

/// Makes one call for each caller at the same time, and starts again when all are answered.
async fn call<E: tollgate::Event>(
    agent: &Agent,
    event: &E,
    callers: usize,
    rounds: u64,
) -> Duration {
    let ids: Vec<String> = (0..callers)
        .map(|caller| format!("caller-{caller}"))
        .collect();
    let started = Instant::now();
    for _ in 0..rounds {
        if let [id] = &ids[..] {
            black_box(agent.send(id, event).await).expect("an answer");
            continue;
        }
        let calls = ids.iter().map(|id| agent.send(id, event));
        for answer in join_all(calls).await {
            black_box(answer).expect("an answer");
        }
    }
    started.elapsed()
}

/// Measures body chunks over a real socket: one after another, and eight in flight.
fn body_chunk_streaming(criterion: &mut Criterion) {
    let agent = SocketAgent::start();
    let runtime = current_thread();
    let (_pool, agent) = runtime.block_on(agent.pool(Encoding::MessagePack));
    let mut group = criterion.benchmark_group("body_chunk_streaming");
    for kib in [1, 4, 16, 64, 256, 1_024] {
        let data = Bytes::from(vec![7; kib << 10]);
        let chunk = RequestBodyChunk(BodyChunk::new(CORRELATION_ID, data, 0, false));
        for in_flight in [1, 8] {
            group.throughput(Throughput::Bytes((in_flight * chunk.0.data.len()) as u64));
            let id = BenchmarkId::new(format!("{in_flight} in flight"), format!("{kib} KiB"));
            group.bench_function(id, |bencher| {
                bencher.iter_custom(|rounds| {
                    runtime.block_on(stream(&agent, &chunk, in_flight, rounds))
                });
            });
        }
    }
}

async fn stream(
    agent: &Agent,
    chunk: &RequestBodyChunk<'_>,
    in_flight: usize,
    rounds: u64,
) -> Duration {
    let mut exchange = agent.exchange(CORRELATION_ID).expect("a connection");
    let started = Instant::now();
    for _ in 0..rounds {
        for _ in 0..in_flight {
            exchange.push(chunk).await.expect("the chunk is sent");
        }
        while let Some(answer) = exchange.next_answer().await {
            black_box(answer).expect("an answer");
        }
    }
    started.elapsed()
}

fn current_thread() -> Runtime {
    Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime")
}

criterion_group! {
    name = benches;
    config = common::brief();
    targets = select_connection, send_request_headers_uds, body_chunk_streaming
}
criterion_main!(benches);
