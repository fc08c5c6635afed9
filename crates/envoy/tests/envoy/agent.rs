//! The agent under test: what it answers depends on the path and the body of a request.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::sync::{Notify, oneshot};
use tokio::task::JoinHandle;
use tollgate::response::{AuditMetadata, BodyMutation};
use tollgate::{
    AgentCapabilities, AgentControl, AgentHandler, AgentResponse, AgentServer, BodyChunk,
    CancelReason, Decision, EventType, HeaderOp, RequestComplete, RequestHeadersView,
    ResponseHeadersView,
};
use tollgate_envoy::{EnvoyConfig, EnvoyCounters, EnvoyListener};

/// Everything that the handler saw of one exchange.
#[derive(Debug, Clone, Default)]
pub(crate) struct Log {
    pub(crate) case: String,
    pub(crate) events: Vec<String>,
    pub(crate) completes: Vec<(u16, usize, usize, bool)>,
    pub(crate) client_ip: String,
    path: String,
    held: bool,
    forever: bool,
}

/// Everything that the handler saw, by correlation id.
#[derive(Clone, Default)]
pub(crate) struct Logs {
    logs: Arc<Mutex<HashMap<String, Log>>>,
    changed: Arc<Notify>,
}

impl Logs {
    /// Returns what was seen of a case.
    pub(crate) fn of(&self, case: &str) -> Log {
        let logs = self.logs.lock().unwrap();
        let found = logs.values().find(|log| log.case == case);
        found.cloned().unwrap_or_default()
    }

    /// Waits until a case is complete.
    pub(crate) async fn completed(&self, case: &str) -> Log {
        let wait = async {
            loop {
                let changed = self.changed.notified();
                let log = self.of(case);
                if !log.completes.is_empty() {
                    return log;
                }
                // A change between the two lines above is not missed for long.
                let _ = tokio::time::timeout(Duration::from_millis(50), changed).await;
            }
        };
        let waited = tokio::time::timeout(Duration::from_secs(20), wait).await;
        waited.unwrap_or_else(|_| panic!("{case} was not completed: {:?}", self.of(case)))
    }

    /// Returns what was seen of every exchange.
    pub(crate) fn all(&self) -> Vec<Log> {
        self.logs.lock().unwrap().values().cloned().collect()
    }

    fn note(&self, id: &str, event: String) -> Log {
        let mut logs = self.logs.lock().unwrap();
        let log = logs.entry(id.to_owned()).or_default();
        log.events.push(event);
        let log = log.clone();
        drop(logs);
        self.changed.notify_waiters();
        log
    }
}

/// The handler.
#[derive(Clone, Default)]
pub(crate) struct Scripted {
    pub(crate) logs: Logs,
    pub(crate) events: Option<Vec<EventType>>,
}

fn set(name: &str, value: &str) -> HeaderOp {
    HeaderOp::Set {
        name: name.to_owned(),
        value: value.to_owned(),
    }
}

fn add(name: &str, value: &str) -> HeaderOp {
    HeaderOp::Add {
        name: name.to_owned(),
        value: value.to_owned(),
    }
}

fn remove(name: &str) -> HeaderOp {
    HeaderOp::Remove {
        name: name.to_owned(),
    }
}

fn allow() -> AgentResponse {
    AgentResponse::default_allow()
}

fn audited(answer: AgentResponse) -> AgentResponse {
    answer.with_audit(AuditMetadata {
        rule_ids: vec!["rule-1".to_owned()],
        ..AuditMetadata::default()
    })
}

fn block() -> AgentResponse {
    audited(AgentResponse::block(403, Some("no\n".to_owned())))
        .add_response_header(add("set-cookie", "a=1"))
        .add_response_header(add("set-cookie", "b=2"))
}

/// Returns the text of a chunk; of a long one the ends, where the words are that tests send.
///
/// To search all of a long chunk takes a build without optimisation longer than all else.
fn ends(data: &[u8]) -> String {
    const END: usize = 100;
    if data.len() <= 2 * END {
        return String::from_utf8_lossy(data).into_owned();
    }
    let ends = [&data[..END], b"\n", &data[data.len() - END..]];
    String::from_utf8_lossy(&ends.concat()).into_owned()
}

impl Scripted {
    fn on_chunk(&self, chunk: &BodyChunk<'_>, side: &str) -> AgentResponse {
        let text = ends(&chunk.data);
        let end = if chunk.is_last { "." } else { "" };
        let shown = if text.len() > 40 { "…" } else { &text };
        let log = self.logs.note(
            chunk.correlation_id,
            format!("{side}{}:{shown}{end}", chunk.chunk_index),
        );
        let mutate = |mutation| match side {
            "request" => allow().with_request_body_mutation(mutation),
            _ => allow().with_response_body_mutation(mutation),
        };
        let index = chunk.chunk_index;
        if text.contains("BLOCK") {
            return block();
        }
        if text.contains("PANIC") {
            panic!("as the test wants");
        }
        if text.contains("REPLACE") {
            return mutate(BodyMutation::replace(index, "new content"));
        }
        if text.contains("DROP") {
            return mutate(BodyMutation::drop_chunk(index));
        }
        if text.contains("WRONG") {
            return mutate(BodyMutation::replace(index + 7, "nowhere"));
        }
        if text.contains("EARLY") {
            return allow().add_response_header(set("x-early", "1"));
        }
        if text.contains("HEADER") {
            return allow().add_request_header(set("x-from-body", "1"));
        }
        let holds = text.contains("HOLD") || log.held;
        let forever = text.contains("FOREVER") || log.forever;
        if let Some(log) = self.logs.logs.lock().unwrap().get_mut(chunk.correlation_id) {
            (log.held, log.forever) = (holds, forever);
        }
        allow().set_needs_more(holds && (!chunk.is_last || forever))
    }
}

impl AgentHandler for Scripted {
    fn capabilities(&self) -> AgentCapabilities {
        let mut capabilities = AgentCapabilities::new("test", "test", "1");
        capabilities.supported_events = match &self.events {
            Some(events) => events.clone(),
            None => EventType::ALL.to_vec(),
        };
        capabilities.limits.max_body_size = 8 * 1024 * 1024;
        capabilities
    }

    async fn on_request_headers(&self, event: RequestHeadersView<'_>) -> AgentResponse {
        let id = event.metadata.correlation_id;
        let path = event.path().into_owned();
        let case = event.headers.get("x-case").unwrap_or_default().to_owned();
        {
            let mut logs = self.logs.logs.lock().unwrap();
            let log = logs.entry(id.to_owned()).or_default();
            (log.case, log.path) = (case, path.clone());
            event.metadata.client_ip.clone_into(&mut log.client_ip);
        }
        self.logs.note(id, format!("head {} {path}", event.method));
        match &*path {
            "/deny" => block(),
            "/redirect" => AgentResponse::redirect("/new".to_owned(), 308),
            "/challenge" => AgentResponse::decided(Decision::Challenge {
                challenge_type: "Bearer".to_owned(),
                params: [("realm".to_owned(), "x".to_owned())].into(),
            }),
            "/status-0" => AgentResponse::block(0, None),
            "/audit" => audited(allow()),
            "/ops" => allow()
                .add_request_header(set("x-set", "1"))
                .add_request_header(add("x-add", "1"))
                .add_request_header(add("x-add", "2"))
                .add_request_header(remove("x-gone"))
                .add_request_header(set("x-both", "1"))
                .add_request_header(remove("x-both"))
                .add_request_header(add("x-both", "2"))
                .add_response_header(set("x-early", "1"))
                .add_response_header(remove("x-old")),
            "/adds" => allow()
                .add_request_header(add("x-add", "1"))
                .add_request_header(add("x-new", "1"))
                .add_request_header(add("x-new", "2")),
            "/reserved" => allow().add_request_header(set("content-length", "5")),
            "/set-host" => allow().add_request_header(set("host", "other")),
            "/line-break" => allow().add_request_header(set("x-a", "1\r\nx-b: 2")),
            "/panic" => panic!("as the test wants"),
            "/slow" => {
                tokio::time::sleep(Duration::from_millis(1500)).await;
                allow()
            }
            "/hang" => {
                tokio::time::sleep(Duration::from_secs(60)).await;
                allow()
            }
            "/more" => AgentResponse::needs_more_data(),
            "/mutate-nothing" => {
                allow().with_request_body_mutation(BodyMutation::replace(0, "early"))
            }
            _ => allow(),
        }
    }

    async fn on_request_body_chunk(&self, event: BodyChunk<'_>) -> AgentResponse {
        let answer = self.on_chunk(&event, "request");
        if event.data.ends_with(b"HANG") {
            tokio::time::sleep(Duration::from_secs(60)).await;
        }
        answer
    }

    async fn on_response_headers(&self, event: ResponseHeadersView<'_>) -> AgentResponse {
        let log = self
            .logs
            .note(event.correlation_id, format!("status {}", event.status));
        match &*log.path {
            "/deny-response" => block(),
            "/response-ops" => allow().add_response_header(set("x-late", "1")),
            "/request-op-late" => allow().add_request_header(set("x-late", "1")),
            _ => allow(),
        }
    }

    async fn on_response_body_chunk(&self, event: BodyChunk<'_>) -> AgentResponse {
        self.on_chunk(&event, "response")
    }

    async fn on_request_complete(&self, event: RequestComplete<'_>) -> AgentResponse {
        {
            let mut logs = self.logs.logs.lock().unwrap();
            let log = logs.entry(event.correlation_id.to_owned()).or_default();
            log.completes.push((
                event.status,
                event.request_body_size,
                event.response_body_size,
                event.error.is_some(),
            ));
        }
        self.logs.note(event.correlation_id, "complete".to_owned());
        allow()
    }

    fn on_cancel(&self, correlation_id: &str, _: CancelReason) {
        self.logs.note(correlation_id, "cancel".to_owned());
    }
}

/// A running agent.
pub(crate) struct Agent {
    pub(crate) address: SocketAddr,
    pub(crate) logs: Logs,
    pub(crate) counters: EnvoyCounters,
    pub(crate) control: AgentControl,
    stop: Option<oneshot::Sender<()>>,
    serving: JoinHandle<()>,
}

impl Agent {
    pub(crate) async fn start() -> Self {
        Self::with(Scripted::default(), EnvoyConfig::default()).await
    }

    pub(crate) async fn with(handler: Scripted, config: EnvoyConfig) -> Self {
        Self::with_memory(256 << 20, handler, config).await
    }

    /// Starts an agent whose connections may hold this many bytes.
    pub(crate) async fn with_memory(limit: usize, handler: Scripted, config: EnvoyConfig) -> Self {
        let listener = EnvoyListener::bind("envoy://127.0.0.1:0", config)
            .await
            .unwrap();
        let counters = listener.counters();
        let logs = handler.logs.clone();
        let server = AgentServer::builder(handler)
            .listen_on(listener)
            .max_memory(limit)
            .drain_timeout(Duration::from_secs(10));
        let control = server.control();
        let server = server.bind().await.unwrap();
        let endpoint = server.endpoints().remove(0);
        let address = endpoint.strip_prefix("envoy://").unwrap().parse().unwrap();
        let (stop, stopped) = oneshot::channel();
        let serving = tokio::spawn(async move {
            let stopped = async {
                let _ = stopped.await;
            };
            server.serve_until(stopped).await.unwrap();
        });
        Self {
            address,
            logs,
            counters,
            control,
            stop: Some(stop),
            serving,
        }
    }

    /// Begins to stop the agent.
    pub(crate) fn stop(&mut self) {
        if let Some(stop) = self.stop.take() {
            let _ = stop.send(());
        }
    }

    /// Waits until the agent has stopped.
    pub(crate) async fn stopped(&mut self) {
        let ended = tokio::time::timeout(Duration::from_secs(20), &mut self.serving).await;
        ended.expect("the agent did not stop").unwrap();
    }
}

/// Listens at a path.
pub(crate) async fn listen_at(path: &Path) -> JoinHandle<()> {
    let endpoint = format!("envoy+unix://{}", path.display());
    let listener = EnvoyListener::bind(&endpoint, EnvoyConfig::default())
        .await
        .unwrap();
    let server = AgentServer::builder(Scripted::default()).listen_on(listener);
    let server = server.bind().await.unwrap();
    tokio::spawn(async move { server.serve().await.unwrap() })
}

impl Agent {
    /// Ends the agent at once, as a crash would.
    pub(crate) fn abort(&mut self) {
        self.serving.abort();
    }
}
