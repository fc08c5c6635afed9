//! Calls over gRPC, with HTTP/2 and both sides in one thread.

use crate::OPERATIONS;
use crate::common::{Allowing, CORRELATION_ID, request_headers};
use iai_callgrind::{library_benchmark, library_benchmark_group};
use tokio::runtime::{Builder, Runtime};
use tollgate::{Agent, AgentConfig, AgentPool, AgentPoolConfig, AgentServer, Decision};

struct OverGrpc {
    _pool: AgentPool,
    agent: Agent,
    runtime: Runtime,
}

/// Returns a connected pool that has made calls before.
fn warm_pool() -> OverGrpc {
    let runtime = Builder::new_current_thread().enable_all().build();
    let runtime = runtime.expect("a runtime");
    let (pool, agent) = runtime.block_on(async {
        let server = AgentServer::builder(Allowing).listen("grpc://127.0.0.1:0");
        let bound = server.bind().await.expect("a free port");
        let endpoint = bound.endpoints().remove(0);
        tokio::spawn(bound.serve());
        let pool = AgentPool::with_config(AgentPoolConfig::default().connections_per_agent(1));
        let agent = AgentConfig::new("agent", endpoint).require_connection();
        let agent = pool.add(agent).await.expect("a connection");
        (pool, agent)
    });
    let grpc = OverGrpc {
        _pool: pool,
        agent,
        runtime,
    };
    send_headers(send_headers(grpc))
}

fn send_headers(grpc: OverGrpc) -> OverGrpc {
    let event = request_headers(10);
    grpc.runtime.block_on(async {
        for _ in 0..OPERATIONS {
            let answer = grpc.agent.send(CORRELATION_ID, &event).await;
            assert!(answer.is_ok_and(|answer| answer.decision == Decision::Allow));
        }
    });
    grpc
}

#[library_benchmark]
#[bench::one_after_another(warm_pool())]
fn whole_call_with_headers(grpc: OverGrpc) -> OverGrpc {
    send_headers(grpc)
}

library_benchmark_group!(name = over_grpc; benchmarks = whole_call_with_headers);
