use crate::TIMEOUT;
use crate::answers::{BLOCKED_TEXT, blocked_by_body, to_chunk, to_frame, to_uri};
use crate::peer_agent::Logged;
use serde::Serialize;
use serde_json::{Value, json};
use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use tempfile::TempDir;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tollgate::error::BindError;
use tollgate::{
    AgentCapabilities, AgentControl, AgentHandler, AgentResponse, AgentServer, BodyChunk,
    CancelReason, Encoding, EventType, RequestComplete, RequestHeadersView, ResponseHeadersView,
    control::AgentFeatures,
    events::{Configure, GuardrailInspect, WebSocketFrame},
};

/// Tollgate's agent server. It answers as the peers' agent does and records each event.
#[derive(Debug)]
pub struct RecordingServer {
    socket: PathBuf,
    records: Records,
    control: AgentControl,
    stop: oneshot::Sender<()>,
    served: JoinHandle<()>,
    _folder: Option<TempDir>,
}

/// Callback for the first event, which can send messages to the proxies.
pub type OnFirstEvent = fn(&AgentControl);

type Records = Arc<Mutex<Vec<Logged>>>;
type Stopped = Pin<Box<dyn Future<Output = ()> + Send>>;

impl RecordingServer {
    /// Serves on a new socket. Calls `on_first_event` when the first request headers arrive.
    ///
    /// # Panics
    ///
    /// If the socket cannot be bound.
    pub async fn serve(encodings: &[Encoding], on_first_event: OnFirstEvent) -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let socket = folder.path().join("tollgate.sock");
        let recorder = Recorder::new(on_first_event);
        let recording = recorder.recording.clone();
        let server = AgentServer::builder(recorder)
            .listen(socket.display().to_string())
            .encodings(encodings);
        let control = server.control();
        let bound = server.bind().await.expect("the socket can be bound");
        let serve = |stopped: Stopped| bound.serve_until(stopped);
        Self::spawn(socket, Some(folder), recording, control, serve)
    }

    /// Like [`serve`](Self::serve), but over gRPC. [`RecordingServer::socket`] returns its
    /// endpoint.
    ///
    /// # Panics
    ///
    /// If no port is free.
    #[cfg(feature = "grpc")]
    pub async fn serve_grpc(on_first_event: OnFirstEvent) -> Self {
        let recorder = Recorder::new(on_first_event);
        let recording = recorder.recording.clone();
        let server = AgentServer::builder(recorder).listen("grpc://127.0.0.1:0");
        let control = server.control();
        let bound = server.bind().await.expect("there is a free port");
        let endpoint = bound.endpoints().remove(0).into();
        let serve = |stopped: Stopped| bound.serve_until(stopped);
        Self::spawn(endpoint, None, recording, control, serve)
    }

    fn spawn<S>(
        socket: PathBuf,
        folder: Option<TempDir>,
        recording: Recording,
        control: AgentControl,
        serve: impl FnOnce(Stopped) -> S,
    ) -> Self
    where
        S: Future<Output = Result<(), BindError>> + Send + 'static,
    {
        lock(&recording.control).replace(control.clone());
        let (stop, stopped) = oneshot::channel();
        let serving = serve(Box::pin(async { stopped.await.unwrap_or_default() }));
        let served = tokio::spawn(async { serving.await.expect("the server runs") });
        Self {
            socket,
            records: recording.records,
            control,
            stop,
            served,
            _folder: folder,
        }
    }

    /// Returns the path or endpoint at which the server listens.
    pub fn socket(&self) -> &Path {
        &self.socket
    }

    /// Returns the handle that sends messages to the proxies.
    pub const fn control(&self) -> &AgentControl {
        &self.control
    }

    /// Stops the server and returns all recorded events in order.
    ///
    /// # Panics
    ///
    /// If the server does not stop, or if its socket file is left.
    pub async fn stop(self) -> Vec<Logged> {
        self.stop.send(()).expect("the server is still running");
        timeout(TIMEOUT, self.served)
            .await
            .expect("the server stops in time")
            .expect("the server does not panic");
        assert!(!self.socket.exists(), "the socket file still exists");
        std::mem::take(&mut lock(&self.records))
    }
}

/// Tollgate's agent dialer. It answers as the peers' agent does and records each event.
#[derive(Debug)]
pub struct RecordingDialer {
    records: Records,
    stop: oneshot::Sender<()>,
    done: JoinHandle<()>,
}

impl RecordingDialer {
    /// Dials the proxy at this socket with one connection, as an agent of this name.
    pub fn dial(socket: &Path, agent_id: &str) -> Self {
        let recorder = Recorder::new(|_| {});
        let records = Arc::clone(&recorder.recording.records);
        let dialer = AgentServer::builder(recorder)
            .agent_id(agent_id)
            .dial(socket.display().to_string())
            .dial_connections(1);
        let (stop, stopped) = oneshot::channel();
        let done = tokio::spawn(async move {
            let stopped = async { stopped.await.unwrap_or_default() };
            dialer
                .serve_until(stopped)
                .await
                .expect("the endpoint is valid");
        });
        Self {
            records,
            stop,
            done,
        }
    }

    /// Stops the dialer and returns all recorded events in order.
    ///
    /// # Panics
    ///
    /// If the dialer does not stop.
    pub async fn stop(self) -> Vec<Logged> {
        self.stop.send(()).expect("the dialer is still running");
        timeout(TIMEOUT, self.done)
            .await
            .expect("the dialer stops in time")
            .expect("the dialer does not panic");
        std::mem::take(&mut lock(&self.records))
    }
}

/// State that a recorder shares with its server or dialer.
#[derive(Debug, Clone, Default)]
struct Recording {
    records: Records,
    /// `None` once the callback for the first event was called.
    control: Arc<Mutex<Option<AgentControl>>>,
}

#[derive(Debug)]
struct Recorder {
    recording: Recording,
    /// Received part of each body, by event and correlation id.
    bodies: Mutex<HashMap<(&'static str, String), Vec<u8>>>,
    on_first_event: OnFirstEvent,
}

impl Recorder {
    fn new(on_first_event: OnFirstEvent) -> Self {
        Self {
            recording: Recording::default(),
            bodies: Mutex::default(),
            on_first_event,
        }
    }

    fn record(&self, event: &str, value: impl Serialize) {
        let logged = Logged {
            event: event.to_owned(),
            value: serde_json::to_value(value).expect("an event is JSON"),
        };
        lock(&self.recording.records).push(logged);
    }

    /// Returns whether this body contains the blocked text, in one chunk or across several.
    fn is_blocked(&self, event: &'static str, chunk: &BodyChunk<'_>) -> bool {
        let mut bodies = lock(&self.bodies);
        let body = bodies
            .entry((event, chunk.correlation_id.to_owned()))
            .or_default();
        body.extend_from_slice(&chunk.data);
        body.windows(BLOCKED_TEXT.len())
            .any(|part| part == BLOCKED_TEXT.as_bytes())
    }
}

impl AgentHandler for Recorder {
    fn capabilities(&self) -> AgentCapabilities {
        let capabilities = AgentCapabilities::new("recorder", "Recorder", "1.2.3");
        EventType::ALL
            .into_iter()
            .fold(capabilities, AgentCapabilities::with_event)
            .with_features(AgentFeatures::full())
    }

    async fn on_request_headers(&self, event: RequestHeadersView<'_>) -> AgentResponse {
        self.record("request_headers", event.to_event());
        if let Some(control) = lock(&self.recording.control).take() {
            (self.on_first_event)(&control);
        }
        to_uri(event.uri)
    }

    async fn on_request_body_chunk(&self, event: BodyChunk<'_>) -> AgentResponse {
        self.record("request_body_chunk", event.to_request_event());
        if self.is_blocked("request_body_chunk", &event) {
            return blocked_by_body();
        }
        AgentResponse {
            request_body_mutation: to_chunk(&event.data, event.chunk_index),
            ..AgentResponse::default_allow()
        }
    }

    async fn on_response_headers(&self, event: ResponseHeadersView<'_>) -> AgentResponse {
        self.record("response_headers", event.to_event());
        AgentResponse::default_allow()
    }

    async fn on_response_body_chunk(&self, event: BodyChunk<'_>) -> AgentResponse {
        self.record("response_body_chunk", event.to_response_event());
        if self.is_blocked("response_body_chunk", &event) {
            return blocked_by_body();
        }
        AgentResponse {
            response_body_mutation: to_chunk(&event.data, event.chunk_index),
            ..AgentResponse::default_allow()
        }
    }

    async fn on_request_complete(&self, event: RequestComplete<'_>) -> AgentResponse {
        self.record("request_complete", event.to_event());
        AgentResponse::default_allow()
    }

    async fn on_websocket_frame(&self, event: WebSocketFrame<'_>) -> AgentResponse {
        self.record("websocket_frame", event.to_event());
        to_frame(&event.data)
    }

    async fn on_guardrail_inspect(&self, event: GuardrailInspect<'_>) -> AgentResponse {
        self.record("guardrail_inspect", event.to_event());
        AgentResponse::default_allow()
    }

    async fn on_configure(&self, event: Configure<'_>) -> Result<(), String> {
        let is_accepted = event
            .config()
            .is_none_or(|config| config["reject"] != Value::Bool(true));
        self.record("configure", event.settings);
        if is_accepted {
            return Ok(());
        }
        Err("Configuration rejected".to_owned())
    }

    fn on_cancel(&self, correlation_id: &str, reason: CancelReason) {
        self.record("cancel", json!([correlation_id, reason.number()]));
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
