//! Heap budgets of a call to an agent in the process of the proxy: both sides together.

#![allow(clippy::unwrap_used, reason = "a failure here fails the test")]

#[macro_use]
mod support;

use std::sync::{Arc, Barrier};
use support::{
    AGENT, Allocations, Answers, Budget, Counting, EVENTS, Flavour, Ids, Traffic, WARM_UP, config,
    record,
};
use tokio::runtime::Handle;
use tollgate::{
    AgentCapabilities, AgentConfig, AgentHandler, AgentPool, AgentResponse, Encoding,
    RequestHeadersView,
};

/// Waits once before it allows.
struct Waiting;

impl AgentHandler for Waiting {
    fn capabilities(&self) -> AgentCapabilities {
        AgentCapabilities::new("waiting", "Waits", "1")
    }

    async fn on_request_headers(&self, event: RequestHeadersView<'_>) -> AgentResponse {
        tokio::task::yield_now().await;
        match event.uri {
            "/" => AgentResponse::default_allow(),
            _ => AgentResponse::block(403, None),
        }
    }
}

fn made_by(flavour: Flavour, handler: impl AgentHandler, traffic: &Traffic) -> Allocations {
    let counting = Counting::begin();
    flavour.runtime().block_on(async {
        let pool = AgentPool::with_config(config(Encoding::MessagePack));
        pool.add(AgentConfig::local(AGENT, handler)).await.unwrap();
        let mut ids = Ids::default();
        traffic.put(&pool, &mut ids, WARM_UP).await;
        warm_threads(&pool, traffic).await;
        counting.during(traffic.put(&pool, &mut ids, EVENTS)).await
    })
}

/// Uses the pool on every thread of the runtime. The first use allocates what a thread keeps, and
/// the pool's own tasks run on any of them.
async fn warm_threads(pool: &AgentPool, traffic: &Traffic) {
    let threads = Handle::current().metrics().num_workers();
    let together = Arc::new(Barrier::new(threads));
    let mut tasks = Vec::new();
    for number in 1..=threads as u64 {
        let (pool, traffic, together) = (pool.clone(), traffic.clone(), Arc::clone(&together));
        tasks.push(tokio::spawn(async move {
            // Blocks the thread, so that each task runs on another one.
            together.wait();
            traffic.put(&pool, &mut Ids::of_caller(number), 1).await
        }));
    }
    for task in tasks {
        task.await.unwrap();
    }
}

fn hold(flavour: Flavour, traffic: Traffic, budget: Budget) {
    let made = made_by(flavour, Answers, &traffic);
    let what = format!("{traffic}, in one process");
    record(&what, "proxy and agent", flavour, budget, made);
}

on_both_runtimes! { hold:
    request_headers_10: Traffic::Headers(10), Budget::NONE;
    request_headers_40: Traffic::Headers(40), Budget::NONE;
    body_chunk_64_kib: Traffic::chunk(64), Budget::NONE;
    response_headers: Traffic::ResponseHeaders, Budget::NONE;
    request_complete: Traffic::Complete, Budget::NONE;
    whole_exchange: Traffic::Exchange, Budget::NONE;
    whole_exchange_pipelined: Traffic::Pipelined, Budget::NONE;
    three_header_operations: Traffic::HeaderOps,
        Budget::per_event(Answers::HEADER_OPS_ALLOCATIONS);
    block: Traffic::Block, Budget::per_event(Answers::BLOCK_ALLOCATIONS);
}

/// A handler that waits, and so each exchange for the time being, takes places in two maps.
#[test]
fn handler_that_waits_takes_no_allocation() {
    let made = made_by(Flavour::CurrentThread, Waiting, &Traffic::Headers(10));
    Budget::per_1000(1).check(made).unwrap();
}
