use std::collections::HashMap;
use std::future::poll_fn;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::task::Poll;
use tempfile::TempDir;
use tokio::runtime::Builder;
use tokio::sync::{Notify, oneshot};
use tollgate::{
    AgentCapabilities, AgentControl, AgentHandler, AgentResponse, AgentServer, AgentServerBuilder,
    BodyChunk, CancelReason, Decision, EventType, HeaderOp, RequestComplete, RequestHeadersView,
    ResponseHeadersView,
    control::AgentFeatures,
    events::{Configure, GuardrailInspect, WebSocketFrame},
    response::{AuditMetadata, BodyMutation},
};

/// Agent that decides by the URI or body of an event, and records every event as JSON.
#[derive(Default)]
pub struct RuleAgent {
    pub seen: Arc<Mutex<Vec<serde_json::Value>>>,
    /// Lets requests for `/wait` continue.
    pub release: Arc<Notify>,
    pub cancelled: Arc<Mutex<Vec<(String, CancelReason)>>>,
}

impl RuleAgent {
    fn record(&self, event: impl serde::Serialize) {
        let event = serde_json::to_value(event).unwrap();
        self.seen.lock().unwrap().push(event);
    }

    async fn decide(&self, uri: &str) -> AgentResponse {
        let op = |name: &str| HeaderOp::Set {
            name: name.to_owned(),
            value: "v\u{e9}".to_owned(),
        };
        let allow = AgentResponse::default_allow();
        match uri {
            "/block" => AgentResponse::decided(Decision::Block {
                status: 403,
                body: Some("no".to_owned()),
                headers: Some(HashMap::from([("x-reason".to_owned(), "rule".to_owned())])),
            }),
            "/redirect" => AgentResponse::redirect("https://example.com/".to_owned(), 302),
            "/challenge" => AgentResponse::decided(Decision::Challenge {
                challenge_type: "captcha".to_owned(),
                params: HashMap::from([("key".to_owned(), "abc".to_owned())]),
            }),
            "/headers" => allow
                .add_request_header(op("x-set"))
                .add_request_header(HeaderOp::Add {
                    name: "x-add".to_owned(),
                    value: "1".to_owned(),
                })
                .add_request_header(HeaderOp::Remove {
                    name: "x-remove".to_owned(),
                })
                .add_response_header(op("x-response")),
            "/audit" => AgentResponse {
                routing_metadata: HashMap::from([("pool".to_owned(), "canary".to_owned())]),
                ..allow.set_needs_more(true).with_audit(AuditMetadata {
                    tags: vec!["t".to_owned()],
                    rule_ids: vec!["r".to_owned()],
                    confidence: Some(0.75),
                    reason_codes: vec!["c".to_owned()],
                    custom: HashMap::from([(
                        "k".to_owned(),
                        serde_json::json!({"a": [1, -2, 2.5, "x", null, true]}),
                    )]),
                })
            },
            "/wait" => {
                self.release.notified().await;
                allow
            }
            _ => allow,
        }
    }
}

impl AgentHandler for RuleAgent {
    fn capabilities(&self) -> AgentCapabilities {
        let capabilities = AgentCapabilities::new("rule-agent", "Rule agent", "1.2.3");
        EventType::ALL
            .into_iter()
            .fold(capabilities, AgentCapabilities::with_event)
            .with_features(AgentFeatures::full())
    }

    async fn on_request_headers(&self, event: RequestHeadersView<'_>) -> AgentResponse {
        self.record(event.to_event());
        self.decide(event.uri).await
    }

    async fn on_request_body_chunk(&self, event: BodyChunk<'_>) -> AgentResponse {
        self.record(event.to_request_event());
        let allow = AgentResponse::default_allow();
        match &event.data[..] {
            b"replace" => allow.with_request_body_mutation(BodyMutation::replace(
                event.chunk_index,
                &b"\x00new\xff"[..],
            )),
            b"drop" => {
                allow.with_request_body_mutation(BodyMutation::drop_chunk(event.chunk_index))
            }
            b"pass" => {
                allow.with_request_body_mutation(BodyMutation::pass_through(event.chunk_index))
            }
            b"wait" => self.decide("/wait").await,
            _ => allow,
        }
    }

    async fn on_response_headers(&self, event: ResponseHeadersView<'_>) -> AgentResponse {
        self.record(event.to_event());
        AgentResponse::default_allow()
    }

    async fn on_response_body_chunk(&self, event: BodyChunk<'_>) -> AgentResponse {
        self.record(event.to_response_event());
        AgentResponse::default_allow()
            .with_response_body_mutation(BodyMutation::replace(event.chunk_index, event.data))
    }

    async fn on_request_complete(&self, event: RequestComplete<'_>) -> AgentResponse {
        self.record(event.to_event());
        AgentResponse::default_allow()
    }

    async fn on_websocket_frame(&self, event: WebSocketFrame<'_>) -> AgentResponse {
        self.record(event.to_event());
        match &event.data[..] {
            b"drop" => AgentResponse::websocket_drop(),
            b"close" => AgentResponse::websocket_close(4001, "bye".to_owned()),
            _ => AgentResponse::websocket_allow(),
        }
    }

    async fn on_guardrail_inspect(&self, event: GuardrailInspect<'_>) -> AgentResponse {
        self.record(event.to_event());
        AgentResponse::default_allow()
    }

    async fn on_configure(&self, event: Configure<'_>) -> Result<(), String> {
        self.record(&event.settings);
        let config = event.config().ok_or("there is no configuration")?;
        if config["accept"] == true {
            return Ok(());
        }
        Err("Configuration rejected".to_owned())
    }

    fn on_cancel(&self, correlation_id: &str, reason: CancelReason) {
        let cancelled = (correlation_id.to_owned(), reason);
        self.cancelled.lock().unwrap().push(cancelled);
    }
}

/// Agent whose handler waits for ever if the path is `/wait`, and which keeps nothing.
#[derive(Default)]
pub struct WaitingAgent {
    /// Number of times that handlers which wait were polled.
    pub polls: Arc<AtomicUsize>,
}

impl AgentHandler for WaitingAgent {
    fn capabilities(&self) -> AgentCapabilities {
        AgentCapabilities::new("waiting", "Waiting", "1.0.0").with_event(EventType::RequestHeaders)
    }

    async fn on_request_headers(&self, event: RequestHeadersView<'_>) -> AgentResponse {
        if event.uri == "/wait" {
            poll_fn(|_| {
                self.polls.fetch_add(1, Ordering::Relaxed);
                Poll::<()>::Pending
            })
            .await;
        }
        AgentResponse::default_allow()
    }
}

/// A running [`RuleAgent`].
pub struct ServedAgent {
    pub path: PathBuf,
    pub seen: Arc<Mutex<Vec<serde_json::Value>>>,
    pub release: Arc<Notify>,
    pub cancelled: Arc<Mutex<Vec<(String, CancelReason)>>>,
    pub control: AgentControl,
    stop: oneshot::Sender<()>,
    served: tokio::task::JoinHandle<()>,
    /// Folder of the socket file.
    dir: Option<TempDir>,
}

impl ServedAgent {
    pub fn last_seen(&self) -> serde_json::Value {
        self.seen.lock().unwrap().last().unwrap().clone()
    }

    /// Stops the server gracefully and waits until it is gone.
    pub async fn stop(self) {
        self.stop.send(()).unwrap();
        self.served.await.unwrap();
        assert!(!self.path.exists(), "the socket file is still there");
    }
}

/// Serves a [`RuleAgent`] on a Unix socket.
pub async fn serve() -> ServedAgent {
    serve_with(|server| server).await
}

/// Serves a [`RuleAgent`] over gRPC for protobuf, and on a Unix socket for other encodings.
pub async fn serve_for(encoding: tollgate::Encoding) -> ServedAgent {
    #[cfg(feature = "grpc")]
    if encoding == tollgate::Encoding::Protobuf {
        return serve_grpc().await;
    }
    let _ = encoding;
    serve().await
}

/// Serves a handler over gRPC for protobuf, and on a Unix socket in `folder` for other encodings,
/// until the test's runtime ends. Returns its endpoint and control.
pub async fn serve_handler(
    encoding: tollgate::Encoding,
    folder: &TempDir,
    handler: impl AgentHandler,
) -> (PathBuf, AgentControl) {
    #[cfg(feature = "grpc")]
    if encoding == tollgate::Encoding::Protobuf {
        let server = AgentServer::builder(handler).listen("grpc://127.0.0.1:0");
        let control = server.control();
        let bound = server.bind().await.unwrap();
        let endpoint = bound.endpoints().remove(0);
        tokio::spawn(bound.serve());
        return (endpoint.into(), control);
    }
    let _ = encoding;
    let path = folder.path().join("handler.sock");
    let server = AgentServer::builder(handler).listen(path.display().to_string());
    let control = server.control();
    tokio::spawn(server.bind().await.unwrap().serve());
    (path, control)
}

/// Serves a handler on a Unix socket, on a thread of its own until the process ends.
pub fn serve_on_thread(path: &Path, handler: impl AgentHandler) {
    let server = AgentServer::builder(handler).listen(path.display().to_string());
    let (listening, listens) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        let runtime = Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let server = server.bind().await.unwrap();
            listening.send(()).unwrap();
            server.serve().await.unwrap();
        });
    });
    listens.recv().unwrap();
}

/// Serves a [`RuleAgent`] over gRPC.
#[cfg(feature = "grpc")]
pub async fn serve_grpc() -> ServedAgent {
    serve_at("grpc://127.0.0.1:0", |server| server).await
}

/// Serves a [`RuleAgent`] at an endpoint, on a server changed by `configure`. The path of the
/// returned agent is an endpoint.
pub async fn serve_at(
    listen: &str,
    configure: impl FnOnce(AgentServerBuilder<RuleAgent>) -> AgentServerBuilder<RuleAgent>,
) -> ServedAgent {
    let agent = RuleAgent::default();
    let handles = Handles::of(&agent);
    let bound = configure(AgentServer::builder(agent).listen(listen))
        .bind()
        .await;
    let bound = bound.unwrap();
    let (endpoint, control) = (bound.endpoints().remove(0), bound.control());
    let (stop, stopped) = oneshot::channel();
    let served = tokio::spawn(async move {
        bound.serve_until(stop_requested(stopped)).await.unwrap();
    });
    handles.served(endpoint.into(), control, stop, served)
}

/// Handles through which a test observes its agent.
struct Handles {
    seen: Arc<Mutex<Vec<serde_json::Value>>>,
    release: Arc<Notify>,
    cancelled: Arc<Mutex<Vec<(String, CancelReason)>>>,
}

impl Handles {
    fn of(agent: &RuleAgent) -> Self {
        Self {
            seen: agent.seen.clone(),
            release: agent.release.clone(),
            cancelled: agent.cancelled.clone(),
        }
    }

    fn served(
        self,
        path: PathBuf,
        control: AgentControl,
        stop: oneshot::Sender<()>,
        served: tokio::task::JoinHandle<()>,
    ) -> ServedAgent {
        ServedAgent {
            path,
            seen: self.seen,
            release: self.release,
            cancelled: self.cancelled,
            control,
            stop,
            served,
            dir: None,
        }
    }
}

/// Waits for a stop request. Without one the agent runs until the test's runtime ends.
async fn stop_requested(stopped: oneshot::Receiver<()>) {
    if stopped.await.is_err() {
        std::future::pending::<()>().await;
    }
}

/// Serves a [`RuleAgent`] on a Unix socket, on a server changed by `configure`.
pub async fn serve_with(
    configure: impl FnOnce(AgentServerBuilder<RuleAgent>) -> AgentServerBuilder<RuleAgent>,
) -> ServedAgent {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("agent.sock");
    let mut served = serve_at(&path.display().to_string(), configure).await;
    served.dir = Some(dir);
    served
}
