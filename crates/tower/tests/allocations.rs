//! Heap budget: the layer allocates nothing of its own for a request whose head is asked about.

#![allow(clippy::unwrap_used, reason = "a failure here fails the test")]

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::Empty;
use std::convert::Infallible;
use std::sync::mpsc;
use std::thread;
use tollgate::proxy::{AgentChain, ChainAgent};
use tollgate::{
    AgentCapabilities, AgentConfig, AgentHandler, AgentPool, AgentPoolConfig, AgentServer,
};
use tollgate_tower::{AgentLayer, RequestBody};
use tower::{Layer, Service, service_fn};

/// Requests that grow buffers and use slots for the first time.
const WARM_UP: usize = 200;

/// Requests that are counted.
const COUNTED: usize = 1_000;

struct Allow;

impl AgentHandler for Allow {
    fn capabilities(&self) -> AgentCapabilities {
        AgentCapabilities::new("allow", "Allow", "1")
    }
}

/// Serves an agent on a thread of its own, whose allocations do not count.
fn serve(socket: String) {
    let (ready, is_ready) = mpsc::channel();
    thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build();
        runtime.unwrap().block_on(async {
            let server = AgentServer::builder(Allow)
                .listen(socket)
                .bind()
                .await
                .unwrap();
            ready.send(()).unwrap();
            server.serve().await.unwrap();
        });
    });
    is_ready.recv().unwrap();
}

fn requests(count: usize) -> Vec<Request<Empty<Bytes>>> {
    let request = || {
        Request::get("/products?id=7")
            .header("host", "shop.example.com")
            .header("user-agent", "test")
            .header("accept", "*/*")
            .header("cookie", "session=1")
            .body(Empty::new())
            .unwrap()
    };
    (0..count).map(|_| request()).collect()
}

#[test]
fn a_head_costs_no_allocation() {
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("agent.sock").display().to_string();
    serve(socket.clone());
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let mut service = runtime.block_on(async {
        let pool = AgentPool::with_config(AgentPoolConfig::default().connections_per_agent(1));
        let agent = AgentConfig::new("allow", socket).require_connection();
        let agent = ChainAgent::new(pool.add(agent).await.unwrap());
        let chain = AgentChain::new(&pool).agent(agent);
        AgentLayer::new(chain).layer(service_fn(|_: Request<RequestBody<Empty<Bytes>>>| {
            std::future::ready(Ok::<_, Infallible>(Response::new(Empty::<Bytes>::new())))
        }))
    });
    let mut send = |requests: Vec<Request<Empty<Bytes>>>| {
        runtime.block_on(async {
            for request in requests {
                let response = service.call(request).await.unwrap();
                assert_eq!(response.status(), 200);
            }
        });
    };
    let made = allocation_counter::measure(|| drop(requests(1)));
    assert!(made.count_total > 0, "allocations are counted");
    send(requests(WARM_UP));
    let counted = requests(COUNTED);
    let made = allocation_counter::measure(|| send(counted));
    assert_eq!(made.count_total, 0, "{made:?}");
}
