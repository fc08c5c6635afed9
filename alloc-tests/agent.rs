//! Heap budgets of an event on the agent's side. The proxy runs in its own process.

#![allow(clippy::unwrap_used, reason = "a failure here fails the test")]

mod support;

use std::process::Stdio;
use std::sync::Arc;
use support::common::{self, RawConnection, message};
use support::{
    AGENT, Allocations, Answers, Budget, Counting, EVENTS, Flavour, Ids, Traffic, WARM_UP, config,
    record,
};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};
use tokio::sync::Notify;
use tollgate::Encoding::{Json, MessagePack};
use tollgate::{
    AgentCapabilities, AgentConfig, AgentHandler, AgentPool, AgentResponse, AgentServer, Encoding,
    RequestHeadersView,
};

const SOCKET: &str = "TOLLGATE_TEST_PROXY_SOCKET";
const ENCODING: &str = "TOLLGATE_TEST_PROXY_ENCODING";

/// Runs the proxy that the other tests start as a process. For each line `N TRAFFIC` on standard
/// input it sends N events to the agent and prints how many it sent.
#[test]
#[ignore = "the other tests start it as the process of their proxy"]
fn proxy_process() {
    let Ok(socket) = std::env::var(SOCKET) else {
        return;
    };
    let encoding = match std::env::var(ENCODING).unwrap().as_str() {
        "json" => Json,
        _ => MessagePack,
    };
    Flavour::MultiThread.runtime().block_on(async {
        let pool = AgentPool::with_config(config(encoding));
        pool.add(AgentConfig::new(AGENT, socket).require_connection())
            .await
            .unwrap();
        let mut ids = Ids::default();
        for line in std::io::stdin().lines() {
            let line = line.unwrap();
            let (events, traffic) = line.split_once(' ').unwrap();
            let traffic = Traffic::named(traffic).unwrap();
            let events = events.parse().unwrap();
            println!("put {}", traffic.put(&pool, &mut ids, events).await);
        }
    });
}

/// Proxy in its own process, which ends with this one.
struct ProxyProcess {
    _child: Child,
    orders: ChildStdin,
    reports: BufReader<ChildStdout>,
    /// Reused buffers, so that talking to the process allocates nothing.
    order: String,
    line: String,
}

impl ProxyProcess {
    fn start(socket: &std::path::Path, encoding: Encoding) -> Self {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["proxy_process", "--exact", "--ignored", "--nocapture"])
            .env(SOCKET, socket)
            .env(ENCODING, encoding.to_string())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        Self {
            orders: child.stdin.take().unwrap(),
            reports: BufReader::new(child.stdout.take().unwrap()),
            _child: child,
            order: String::with_capacity(1024),
            line: String::with_capacity(1024),
        }
    }

    async fn put(&mut self, traffic: &Traffic, events: u64) -> u64 {
        use std::fmt::Write;
        self.order.clear();
        writeln!(self.order, "{events} {traffic}").unwrap();
        self.orders.write_all(self.order.as_bytes()).await.unwrap();
        loop {
            self.line.clear();
            let length = self.reports.read_line(&mut self.line).await.unwrap();
            assert!(length > 0, "the proxy process has ended");
            // The test harness of the process prints other lines too.
            if let Some(events) = self.line.trim_end().strip_prefix("put ") {
                return events.parse().unwrap();
            }
        }
    }
}

/// Sends traffic to an agent and checks its allocations, without the handler's, against the budget.
fn hold(flavour: Flavour, encoding: Encoding, traffic: Traffic, budget: Budget) {
    let made = count(flavour, encoding, &traffic);
    let by_handler = made.events * allocations_of_response(&traffic);
    let by_tollgate = Allocations {
        count: made.count.checked_sub(by_handler).unwrap(),
        ..made
    };
    let what = format!("{traffic}, {encoding}");
    record(&what, "agent", flavour, budget, by_tollgate);
}

/// Counts all allocations in an agent's process.
fn count(flavour: Flavour, encoding: Encoding, traffic: &Traffic) -> Allocations {
    let counting = Counting::begin();
    flavour.runtime().block_on(async {
        let dir = tempfile::tempdir().unwrap();
        let socket = dir.path().join("agent.sock");
        let agent = AgentServer::builder(Answers)
            .listen(socket.display().to_string())
            .bind()
            .await
            .unwrap();
        tokio::spawn(agent.serve_until(std::future::pending()));
        let mut proxy = ProxyProcess::start(&socket, encoding);
        proxy.put(traffic, WARM_UP).await;
        counting.during(proxy.put(traffic, EVENTS)).await
    })
}

/// Handler that never answers.
struct Waits(Arc<Notify>);

impl AgentHandler for Waits {
    fn capabilities(&self) -> AgentCapabilities {
        AgentCapabilities::new("waits", "Waits", "1.0.0")
    }

    async fn on_request_headers(&self, _event: RequestHeadersView<'_>) -> AgentResponse {
        self.0.notify_one();
        std::future::pending().await
    }
}

#[test]
fn a_waiting_event_takes_little_more_than_its_payload() {
    const FIELD: usize = 7 * 1024 * 1024;
    let counting = Counting::begin();
    Flavour::CurrentThread.runtime().block_on(async {
        let dir = tempfile::tempdir().unwrap();
        let socket = dir.path().join("agent.sock");
        let waiting = Arc::new(Notify::new());
        let agent = AgentServer::builder(Waits(Arc::clone(&waiting)))
            .listen(socket.display().to_string())
            .bind()
            .await
            .unwrap();
        tokio::spawn(agent.serve_until(std::future::pending()));
        let mut event = serde_json::to_value(common::request("c-1", "/")).unwrap();
        event["headers"] = serde_json::json!({"x": ["v".repeat(FIELD)]});
        let mut proxy = RawConnection::connect_in(&socket, Json).await;
        let event = common::frame(message::REQUEST_HEADERS, event.to_string().as_bytes());

        let before = counting.bytes_in_use();
        proxy.send_bytes(&event).await;
        waiting.notified().await;
        let held = counting.bytes_in_use() - before;
        assert!(held < FIELD + FIELD / 4, "{held} bytes");
    });
}

/// The count includes everything that happens while an event is answered.
#[test]
fn an_allocation_with_each_event_is_noticed() {
    let made = count(Flavour::MultiThread, MessagePack, &Traffic::Block);
    assert_eq!(made.count, made.events * Answers::BLOCK_ALLOCATIONS);
    let one_less = Budget::per_event(Answers::BLOCK_ALLOCATIONS - 1);
    assert!(one_less.check(made).is_err());
}

fn allocations_of_response(traffic: &Traffic) -> u64 {
    match traffic {
        Traffic::HeaderOps => Answers::HEADER_OPS_ALLOCATIONS,
        Traffic::Block => Answers::BLOCK_ALLOCATIONS,
        _ => 0,
    }
}

// A read buffer may grow once more when a body arrives in many pieces.
on_both_runtimes! { hold:
    request_headers_10: MessagePack, Traffic::Headers(10), Budget::NONE;
    request_headers_40: MessagePack, Traffic::Headers(40), Budget::NONE;
    request_headers_10_in_json: Json, Traffic::Headers(10), Budget::NONE;
    request_headers_40_in_json: Json, Traffic::Headers(40), Budget::NONE;
    request_headers_escaped_in_json: Json, Traffic::Escaped(2), Budget::NONE;
    body_chunk_1_kib_in_json: Json, Traffic::chunk(1), Budget::per_event(1);
    body_chunk_1_kib: MessagePack, Traffic::chunk(1), Budget::per_1000(1);
    body_chunk_16_kib: MessagePack, Traffic::chunk(16), Budget::per_1000(1);
    body_chunk_64_kib: MessagePack, Traffic::chunk(64), Budget::per_1000(1);
    response_headers: MessagePack, Traffic::ResponseHeaders, Budget::NONE;
    request_complete: MessagePack, Traffic::Complete, Budget::NONE;
    whole_exchange: MessagePack, Traffic::Exchange, Budget::per_1000(1);
    whole_exchange_pipelined: MessagePack, Traffic::Pipelined, Budget::per_1000(1);
    three_header_operations: MessagePack, Traffic::HeaderOps, Budget::NONE;
    block: MessagePack, Traffic::Block, Budget::NONE;
}
