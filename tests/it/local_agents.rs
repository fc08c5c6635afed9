//! Agents in the process of the proxy: the behaviour of every other agent, without a connection.

use crate::common::{
    RuleAgent, TEST_TIMEOUT, call, config, configure, eventually, expect_decides, request,
    result_of, serve,
};
use std::future::pending;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use tokio::sync::Notify;
use tollgate::{
    Agent, AgentCapabilities, AgentConfig, AgentHandler, AgentPool, AgentPoolConfig, AgentResponse,
    BodyChunk, CallError as Error, CancelReason, Decision, Encoding, FailureMode, Placement,
    RequestBodyChunk, RequestComplete, RequestHeadersView, ResponseBodyChunk, ResponseHeaders,
    events::{GuardrailInspect, GuardrailInspectionType, WebSocketFrame, WebSocketOpcode},
    stats::CircuitBreakerState,
};

/// Notes of a [`PathAgent`], in order.
type Log = Arc<Mutex<Vec<String>>>;

/// Does what the path says.
#[derive(Clone, Default)]
struct PathAgent {
    log: Log,
    release: Arc<Notify>,
    waiting: Arc<AtomicUsize>,
}

impl PathAgent {
    fn note(&self, what: impl Into<String>) {
        self.log.lock().unwrap().push(what.into());
    }

    fn noted(&self) -> Vec<String> {
        self.log.lock().unwrap().clone()
    }

    async fn until_waiting(&self, count: usize) {
        let waits = async || self.waiting.load(Ordering::SeqCst) == count;
        eventually("the handler waits", waits).await;
    }
}

/// Notes that a handler was dropped.
struct Waits<'a>(&'a PathAgent, String);

impl Drop for Waits<'_> {
    fn drop(&mut self) {
        self.0.waiting.fetch_sub(1, Ordering::SeqCst);
        self.0.note(format!("end {}", self.1));
        assert!(!self.1.starts_with("fragile"), "told to panic");
    }
}

impl AgentHandler for PathAgent {
    fn capabilities(&self) -> AgentCapabilities {
        AgentCapabilities::new("path-agent", "Does what the path says", "1.0.0")
    }

    fn on_request_headers(
        &self,
        event: RequestHeadersView<'_>,
    ) -> impl Future<Output = AgentResponse> + Send {
        let id = event.metadata.correlation_id.to_owned();
        assert_ne!(event.uri, "/panic-at-once", "told to panic");
        let uri = event.uri.to_owned();
        async move {
            self.note(format!("begin {id}"));
            match &*uri {
                "/block" => return AgentResponse::block(403, None),
                "/panic" => panic!("told to panic"),
                "/wait" | "/wait-and-panic" => {
                    self.waiting.fetch_add(1, Ordering::SeqCst);
                    let _waits = Waits(self, id);
                    self.release.notified().await;
                    assert_eq!(uri, "/wait", "told to panic");
                }
                "/never" => {
                    self.waiting.fetch_add(1, Ordering::SeqCst);
                    let _waits = Waits(self, id);
                    pending::<()>().await;
                }
                _ => {}
            }
            AgentResponse::default_allow()
        }
    }

    fn on_cancel(&self, correlation_id: &str, reason: CancelReason) {
        self.note(format!("cancel {correlation_id} {reason:?}"));
        assert!(!correlation_id.starts_with("panic"), "told to panic");
    }

    fn on_connection_closed(&self) {
        self.note("closed");
    }
}

async fn added(config: AgentPoolConfig, handler: impl AgentHandler) -> (AgentPool, Agent) {
    let pool = AgentPool::with_config(config);
    let agent = pool.add(AgentConfig::local("agent", handler)).await;
    (pool, agent.unwrap())
}

fn pool_config() -> AgentPoolConfig {
    config(Encoding::MessagePack)
}

async fn send(agent: &Agent, id: &str, uri: &str) -> Result<AgentResponse, Error> {
    agent.exchange(id)?.send(&request(id, uri)).await
}

/// Begins a call in a task of its own.
fn begin(agent: &Agent, id: &str, uri: &str) -> crate::common::Call {
    let (agent, id, uri) = (agent.clone(), id.to_owned(), uri.to_owned());
    tokio::spawn(async move { agent.send(&id, &request(&id, &uri)).await })
}

/// Sends an event of every kind, and returns the answers.
async fn every_event(agent: &Agent) -> Vec<AgentResponse> {
    let mut answers = Vec::new();
    for uri in [
        "/",
        "/block",
        "/redirect",
        "/challenge",
        "/headers",
        "/audit",
    ] {
        answers.push(send(agent, uri, uri).await.unwrap());
    }
    let mut exchange = agent.exchange("c").unwrap();
    for data in ["replace", "drop", "pass", "other"] {
        let chunk = BodyChunk::new("x", data.into(), 7, true);
        answers.push(
            exchange
                .send(&RequestBodyChunk(chunk.clone()))
                .await
                .unwrap(),
        );
        answers.push(exchange.send(&ResponseBodyChunk(chunk)).await.unwrap());
    }
    let head = ResponseHeaders {
        correlation_id: "x",
        status: 404,
        headers: &[("a", "1"), ("b", "2"), ("A", "3")][..],
    };
    answers.push(exchange.send(&head).await.unwrap());
    let frame = |data: &'static str| WebSocketFrame {
        correlation_id: "x",
        opcode: WebSocketOpcode::Text,
        data: data.into(),
        client_to_server: true,
        frame_index: 1,
        fin: true,
        route_id: Some("route"),
        client_ip: "192.0.2.7",
    };
    for data in ["drop", "close", "other"] {
        answers.push(exchange.send(&frame(data)).await.unwrap());
    }
    let inspect = GuardrailInspect {
        correlation_id: "x",
        inspection_type: GuardrailInspectionType::PiiDetection,
        content: "text",
        model: None,
        categories: vec!["a"],
        route_id: None,
        metadata: vec![("k", "v")],
    };
    answers.push(exchange.send(&inspect).await.unwrap());
    let complete = RequestComplete {
        correlation_id: "x",
        status: 200,
        duration_ms: 3,
        request_body_size: 4,
        response_body_size: 5,
        upstream_attempts: 1,
        error: None,
    };
    answers.push(exchange.send(&complete).await.unwrap());
    answers
}

#[tokio::test]
async fn handlers_see_and_answer_events_as_over_a_socket() {
    let local = RuleAgent::default();
    let seen = Arc::clone(&local.seen);
    let (_pool, agent) = added(pool_config(), local).await;
    let answers = every_event(&agent).await;

    let served = serve().await;
    let pool = crate::common::pool_with(pool_config(), &served.path).await;
    let remote = pool.agent("agent").unwrap();
    assert_eq!(answers, every_event(&remote).await);
    assert_eq!(*seen.lock().unwrap(), *served.seen.lock().unwrap());
    assert_eq!(agent.stats().calls, remote.stats().calls);
    let announced = |agent: &Agent| agent.capabilities().unwrap().supported_events;
    assert_eq!(announced(&agent), announced(&remote));
    assert_eq!(agent.stats().endpoint, "local");
}

#[tokio::test]
async fn handler_is_dropped_at_the_deadline() {
    let handler = PathAgent::default();
    let timeout = Duration::from_millis(50);
    let (_pool, agent) = added(pool_config().request_timeout(timeout), handler.clone()).await;
    let started = Instant::now();
    assert_fails!(send(&agent, "a", "/never").await, Error::Timeout { .. });
    assert!(started.elapsed() >= timeout);
    assert_eq!(handler.noted()[..2], ["begin a", "end a"]);
    assert_eq!(agent.stats().calls.timed_out, 1);
    send(&agent, "a", "/").await.unwrap();

    let mut exchange = agent.exchange("b").unwrap();
    let event = request("b", "/never");
    let limited = exchange.send(&event).timeout(Duration::from_millis(1));
    assert_fails!(limited.await, Error::Timeout { .. });
    assert_eq!(agent.stats().total_in_flight, 0);
}

#[tokio::test]
async fn failure_mode_and_circuit_breaker_apply() {
    let config = pool_config()
        .request_timeout(Duration::from_millis(10))
        .circuit_breaker_threshold(3);
    let pool = AgentPool::with_config(config);
    let closed = AgentConfig::local("closed", PathAgent::default());
    let open = AgentConfig::local("open", PathAgent::default()).failure_mode(FailureMode::Open);
    let (closed, open) = (
        pool.add(closed).await.unwrap(),
        pool.add(open).await.unwrap(),
    );
    for _ in 0..3 {
        assert_fails!(send(&closed, "c", "/never").await, Error::Timeout { .. });
        let answer = send(&open, "c", "/never").await.unwrap();
        assert_eq!(answer.decision, Decision::Allow);
    }
    assert_eq!(closed.circuit_breaker_state(), CircuitBreakerState::Open);
    assert_fails!(send(&closed, "c", "/").await, Error::CircuitOpen { .. });
    assert_eq!(
        send(&open, "c", "/block").await.unwrap().decision,
        Decision::Allow
    );
    assert_eq!(open.stats().failed_open, 4);
}

#[tokio::test]
async fn panic_fails_only_its_own_call() {
    let handler = PathAgent::default();
    let (_pool, agent) = added(pool_config(), handler.clone()).await;
    let other = begin(&agent, "other", "/wait");
    handler.until_waiting(1).await;
    for uri in ["/panic", "/panic-at-once"] {
        assert_fails!(send(&agent, "p", uri).await, Error::Panicked { .. });
    }
    let late = begin(&agent, "late", "/wait-and-panic");
    handler.until_waiting(2).await;
    handler.release.notify_waiters();
    assert_fails!(result_of(late).await, Error::Panicked { .. });
    result_of(other).await.unwrap();
    assert_eq!(agent.stats().calls.panicked, 3);
    assert!(agent.is_healthy());
    assert!(!handler.noted().contains(&"closed".to_owned()));
    // What the handler is told about a connection is contained as well.
    agent.cancel("panic", CancelReason::Timeout).await.unwrap();
    drop_while_waiting(&agent, &handler, "panic-2").await;
    // And so are destructors, those of calls that are dropped and of calls whose time is over.
    drop_while_waiting(&agent, &handler, "fragile").await;
    let event = request("fragile-2", "/never");
    let late = agent
        .send("fragile-2", &event)
        .timeout(Duration::from_millis(50));
    assert_fails!(late.await, Error::Timeout { .. });
    send(&agent, "p", "/").await.unwrap();
}

#[tokio::test]
async fn panics_open_the_breaker_and_are_not_allowed() {
    let config = pool_config().circuit_breaker_threshold(3);
    let pool = AgentPool::with_config(config);
    let agent = AgentConfig::local("agent", PathAgent::default()).failure_mode(FailureMode::Open);
    let agent = pool.add(agent).await.unwrap();
    for _ in 0..3 {
        assert_fails!(send(&agent, "p", "/panic").await, Error::Panicked { .. });
    }
    assert_eq!(agent.circuit_breaker_state(), CircuitBreakerState::Open);
}

async fn drop_while_waiting(agent: &Agent, handler: &PathAgent, id: &str) {
    let before = handler.waiting.load(Ordering::SeqCst);
    let (agent, event) = (agent.clone(), request(id, "/never"));
    let id = id.to_owned();
    let sending = tokio::spawn(async move {
        let mut exchange = agent.exchange(&id).unwrap();
        exchange.send(&event).await
    });
    handler.until_waiting(before + 1).await;
    sending.abort();
    assert!(sending.await.unwrap_err().is_cancelled());
    handler.until_waiting(before).await;
}

#[tokio::test]
async fn dropped_call_drops_its_handler_and_cancels_the_exchange() {
    let handler = PathAgent::default();
    let (_pool, agent) = added(pool_config(), handler.clone()).await;
    drop_while_waiting(&agent, &handler, "a").await;
    let expected = ["begin a", "end a", "cancel a ClientDisconnect"];
    assert_eq!(handler.noted(), expected);
    let stats = agent.stats();
    assert_eq!((stats.calls.given_up, stats.total_in_flight), (1, 0));
}

#[tokio::test]
async fn cancelled_call_fails_and_its_handler_is_told() {
    let handler = PathAgent::default();
    let (_pool, agent) = added(pool_config(), handler.clone()).await;
    let pending = begin(&agent, "a", "/never");
    handler.until_waiting(1).await;
    agent
        .cancel("a", CancelReason::UpstreamError)
        .await
        .unwrap();
    assert_fails!(result_of(pending).await, Error::Cancelled { .. });
    let expected = ["begin a", "end a", "cancel a UpstreamError"];
    assert_eq!(handler.noted(), expected);

    let pending = begin(&agent, "b", "/never");
    handler.until_waiting(1).await;
    assert_eq!(agent.cancel_all(CancelReason::Manual).await.unwrap(), 1);
    assert_fails!(result_of(pending).await, Error::Cancelled { .. });
}

#[tokio::test]
async fn events_of_an_exchange_keep_their_order() {
    let handler = PathAgent::default();
    let (_pool, agent) = added(pool_config(), handler.clone()).await;
    let first = begin(&agent, "a", "/wait");
    handler.until_waiting(1).await;
    let dropped = begin(&agent, "a", "/");
    let third = begin(&agent, "a", "/block");
    let waits = async || agent.stats().total_in_flight == 3;
    eventually("the events wait", waits).await;
    send(&agent, "b", "/").await.unwrap();
    dropped.abort();
    assert!(dropped.await.unwrap_err().is_cancelled());
    assert_eq!(handler.noted(), ["begin a", "begin b"]);
    handler.release.notify_waiters();
    result_of(first).await.unwrap();
    let blocked = result_of(third).await.unwrap();
    assert!(matches!(blocked.decision, Decision::Block { .. }));
    assert_eq!(handler.noted()[2..], ["end a", "begin a"]);
    send(&agent, "a", "/").await.unwrap();
}

#[tokio::test]
async fn queued_event_ends_at_its_deadline() {
    let handler = PathAgent::default();
    let timeout = Duration::from_millis(30);
    let (_pool, agent) = added(pool_config(), handler.clone()).await;
    let first = begin(&agent, "a", "/wait");
    handler.until_waiting(1).await;
    let event = request("a", "/");
    assert_fails!(
        agent.send("a", &event).timeout(timeout).await,
        Error::Timeout { .. }
    );
    handler.release.notify_waiters();
    result_of(first).await.unwrap();
    send(&agent, "a", "/").await.unwrap();
}

#[tokio::test]
async fn slots_bound_the_handlers_that_wait() {
    let handler = PathAgent::default();
    let config = pool_config()
        .max_concurrent_per_connection(1)
        .queue_timeout(Duration::from_millis(20));
    let (_pool, agent) = added(config, handler.clone()).await;
    let first = begin(&agent, "a", "/wait");
    handler.until_waiting(1).await;
    let queued = result_of(begin(&agent, "b", "/")).await;
    assert_fails!(queued, Error::QueueTimeout { .. });
    handler.release.notify_waiters();
    result_of(first).await.unwrap();
    send(&agent, "b", "/").await.unwrap();
}

#[tokio::test]
async fn removed_agent_finishes_its_calls() {
    let handler = PathAgent::default();
    let (pool, agent) = added(pool_config(), handler.clone()).await;
    let mut exchange = agent.exchange("e").unwrap();
    let pending = begin(&agent, "a", "/wait");
    handler.until_waiting(1).await;
    pool.remove("agent").unwrap();
    assert_fails!(send(&agent, "b", "/").await, Error::Removed { .. });
    handler.release.notify_waiters();
    result_of(pending).await.unwrap();
    pool.unpin("a");
    exchange.send(&request("e", "/")).await.unwrap();
    drop(exchange);
    let closed = async || handler.noted().contains(&"closed".to_owned());
    eventually("the handler is told", closed).await;
}

#[tokio::test]
async fn removed_agent_is_cut_off_after_the_drain_timeout() {
    let handler = PathAgent::default();
    let config = pool_config().drain_timeout(Duration::from_millis(30));
    let (pool, agent) = added(config, handler.clone()).await;
    let pending = begin(&agent, "a", "/never");
    handler.until_waiting(1).await;
    pool.remove("agent").unwrap();
    assert_fails!(result_of(pending).await, Error::Cancelled { .. });
    let told = async || handler.noted().len() == 4;
    eventually("the handler is told", told).await;
    let expected = ["begin a", "end a", "cancel a ProxyShutdown", "closed"];
    assert_eq!(handler.noted(), expected);
}

#[tokio::test]
async fn agents_are_replaced_without_losing_a_call() {
    let old = PathAgent::default();
    let (pool, agent) = added(pool_config(), old.clone()).await;
    let pending = begin(&agent, "a", "/wait");
    old.until_waiting(1).await;
    let served = serve().await;
    let path = served.path.to_str().unwrap();
    pool.replace(AgentConfig::new("agent", path)).await.unwrap();
    expect_decides(&pool).await;
    old.release.notify_waiters();
    result_of(pending).await.unwrap();
    pool.replace(AgentConfig::local("agent", RuleAgent::default()))
        .await
        .unwrap();
    expect_decides(&pool).await;
    assert_eq!(pool.agent("agent").unwrap().stats().calls.answered, 3);
}

#[tokio::test]
async fn shutdown_waits_for_handlers() {
    let handler = PathAgent::default();
    let (pool, agent) = added(pool_config(), handler.clone()).await;
    let pending = begin(&agent, "a", "/wait");
    handler.until_waiting(1).await;
    let shutdown = tokio::spawn(async move { pool.shutdown().await });
    let closing = async || agent.exchange("b").is_err();
    eventually("the pool closes", closing).await;
    handler.release.notify_waiters();
    result_of(pending).await.unwrap();
    shutdown.await.unwrap();
}

#[tokio::test]
async fn settings_reach_the_handler() {
    let handler = RuleAgent::default();
    let seen = Arc::clone(&handler.seen);
    let pool = AgentPool::with_config(pool_config());
    let settings = serde_json::json!({"accept": true});
    let agent = AgentConfig::local("agent", handler).settings(settings.clone(), None);
    let agent = pool.add(agent).await.unwrap();
    assert_eq!(seen.lock().unwrap()[0]["config"], settings);
    let refused = agent
        .configure(serde_json::json!({"accept": false}), None)
        .await;
    assert_fails!(refused, Error::SettingsRefused { .. });
    let event = configure("c", serde_json::json!({"config": {"accept": true}}));
    agent.exchange("c").unwrap().send(&event).await.unwrap();
}

#[tokio::test]
async fn pushed_events_are_answered_in_order() {
    let (_pool, agent) = added(pool_config(), RuleAgent::default()).await;
    let mut exchange = agent.exchange("c").unwrap();
    for uri in ["/", "/block", "/redirect"] {
        exchange.push(&request("c", uri)).await.unwrap();
    }
    assert_eq!(exchange.unanswered(), 3);
    let mut kinds = Vec::new();
    while let Some(answer) = exchange.next_answer().await {
        kinds.push(answer.unwrap().decision.as_str());
    }
    assert_eq!(kinds, ["allow", "block", "redirect"]);
}

#[tokio::test]
async fn calls_are_timed() {
    let (_pool, agent) = added(pool_config(), RuleAgent::default()).await;
    let event = request("c", "/block");
    let (answer, timings) = agent.send("c", &event).timed().await.unwrap();
    assert!(matches!(answer.decision, Decision::Block { .. }));
    assert!(timings.is_some());
}

#[tokio::test]
async fn too_large_events_are_refused() {
    let (_pool, agent) = added(pool_config(), RuleAgent::default()).await;
    let mut exchange = agent.exchange("c").unwrap();
    let chunk = BodyChunk::new("c", vec![0; 17 * 1024 * 1024].into(), 0, true);
    let refused = exchange.send(&RequestBodyChunk(chunk)).await;
    assert_fails!(refused, Error::MessageTooLarge { .. });
    assert_eq!(agent.stats().calls.too_large, 1);
}

#[test]
fn agent_outlives_the_runtime_that_added_it() {
    let runtime = || {
        let mut builder = tokio::runtime::Builder::new_current_thread();
        builder.enable_all().build().unwrap()
    };
    let handler = PathAgent::default();
    let first = runtime();
    let (pool, agent) = first.block_on(added(pool_config(), handler.clone()));
    drop(first);
    assert_eq!(handler.noted(), ["closed"]);
    runtime().block_on(async {
        eventually("the agent is back", async || {
            send(&agent, "a", "/").await.is_ok()
        })
        .await;
        result_of(call(&pool, "b")).await.unwrap();
    });
}

#[tokio::test]
async fn each_runtime_gets_places_of_its_own() {
    let config = pool_config().placement(Placement::PerRuntime);
    let (pool, agent) = added(config, RuleAgent::default()).await;
    let thread = std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build();
        runtime.unwrap().block_on(async {
            let two = async || {
                send(&agent, "c", "/").await.unwrap();
                agent.stats().active_connections == 2
            };
            eventually("the second connection", two).await;
        });
    });
    tokio::task::spawn_blocking(|| thread.join().unwrap())
        .await
        .unwrap();
    expect_decides(&pool).await;
}

#[tokio::test]
async fn capabilities_that_panic_do_not_reach_the_caller() {
    struct NoCapabilities;
    impl AgentHandler for NoCapabilities {
        fn capabilities(&self) -> AgentCapabilities {
            panic!("told to panic");
        }
    }
    let pool = AgentPool::with_config(pool_config());
    let agent = AgentConfig::local("agent", NoCapabilities).require_connection();
    let refused = tokio::time::timeout(TEST_TIMEOUT, pool.add(agent))
        .await
        .unwrap();
    assert!(
        refused
            .unwrap_err()
            .to_string()
            .contains("the handler panicked")
    );
}
