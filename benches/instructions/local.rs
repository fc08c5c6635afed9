//! Calls to an agent in the process of the proxy, both sides together.

use crate::OPERATIONS;
use crate::common::{Allowing, CORRELATION_ID, Pairs, hyper_request_headers, request_headers};
use iai_callgrind::{library_benchmark, library_benchmark_group};
use tokio::runtime::{Builder, Runtime};
use tollgate::{Agent, AgentConfig, AgentPool, AgentPoolConfig, Decision, Event, RequestHeaders};

struct Local<E> {
    runtime: Runtime,
    _pool: AgentPool,
    agent: Agent,
    event: E,
}

fn local<E: Event>(event: E) -> Local<E> {
    let runtime = Builder::new_current_thread().enable_time().build();
    let runtime = runtime.expect("a runtime without I/O driver can always be built");
    let pool = AgentPool::with_config(AgentPoolConfig::default());
    let config = AgentConfig::local("local", Allowing);
    let agent = runtime.block_on(pool.add(config));
    let local = Local {
        runtime,
        _pool: pool,
        agent: agent.expect("an agent that is not in the pool"),
        event,
    };
    ask(ask(local))
}

fn ask<E: Event>(local: Local<E>) -> Local<E> {
    local.runtime.block_on(async {
        for _ in 0..OPERATIONS {
            let exchange = local.agent.exchange(CORRELATION_ID);
            let mut exchange = exchange.expect("an agent with a connection");
            let answer = exchange.send(&local.event).await;
            assert!(answer.is_ok_and(|answer| answer.decision == Decision::Allow));
        }
    });
    local
}

/// An event with headers as a list, and one with those of hyper.
enum Head {
    List(Local<RequestHeaders<'static, Pairs>>),
    Map(Local<RequestHeaders<'static, http::HeaderMap>>),
}

#[library_benchmark]
#[bench::of_10(Head::List(local(request_headers(10))))]
#[bench::of_40(Head::List(local(request_headers(40))))]
#[bench::of_10_in_a_map(Head::Map(local(hyper_request_headers(10))))]
fn whole_call_in_process(head: Head) -> Head {
    match head {
        Head::List(local) => Head::List(ask(local)),
        Head::Map(local) => Head::Map(ask(local)),
    }
}

library_benchmark_group!(name = in_process; benchmarks = whole_call_in_process);
