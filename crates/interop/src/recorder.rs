use crate::PATIENCE;
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
use tollgate::{
    AgentCapabilities, AgentControl, AgentDialer, AgentFeatures, AgentHandler, AgentProtocolError,
    AgentResponse, BodyChunk, CancelReason, Configure, Encoding, EventType, GuardrailInspect,
    RequestComplete, RequestHeadersView, ResponseHeadersView, UdsAgentServer, WebSocketFrame,
};

/// Tollgate's agent server, which answers as the peers' agent does and remembers what it was given.
#[derive(Debug)]
pub struct RecordingServer {
    socket: PathBuf,
    records: Records,
    control: AgentControl,
    stop: oneshot::Sender<()>,
    served: JoinHandle<()>,
    _folder: Option<TempDir>,
}

/// Tells the proxies something when the first event arrives.
pub type FirstWords = fn(&AgentControl);

type Records = Arc<Mutex<Vec<Logged>>>;
type Stopped = Pin<Box<dyn Future<Output = ()> + Send>>;

impl RecordingServer {
    /// Serves on a socket of its own, and has `first_words` for its proxies as soon as one of them has
    /// sent request headers.
    ///
    /// # Panics
    ///
    /// If the socket cannot be bound.
    pub async fn serve(encodings: &[Encoding], first_words: FirstWords) -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let socket = folder.path().join("tollgate.sock");
        let recorder = Recorder::new(first_words);
        let recording = recorder.recording.clone();
        let server = UdsAgentServer::new(&socket, recorder).with_encodings(encodings);
        let control = server.control();
        let bound = server.bind().await.expect("the socket can be bound");
        let serve = |stopped: Stopped| bound.serve_until(stopped);
        Self::spawn(socket, Some(folder), recording, control, serve)
    }

    /// The same over gRPC; [`RecordingServer::socket`] is its endpoint.
    ///
    /// # Panics
    ///
    /// If there is no free port.
    #[cfg(feature = "grpc")]
    pub async fn serve_grpc(first_words: FirstWords) -> Self {
        let recorder = Recorder::new(first_words);
        let recording = recorder.recording.clone();
        let server = tollgate::GrpcAgentServer::new("grpc://127.0.0.1:0", recorder);
        let control = server.control();
        let bound = server.bind().await.expect("there is a free port");
        let address = bound.local_addr().expect("it listens at a port");
        let endpoint = format!("grpc://{address}").into();
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
        S: Future<Output = Result<(), AgentProtocolError>> + Send + 'static,
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

    /// Where it listens.
    pub fn socket(&self) -> &Path {
        &self.socket
    }

    /// Tells its proxies something at any time.
    pub const fn control(&self) -> &AgentControl {
        &self.control
    }

    /// Stops the server and gives everything that it was told, in order.
    ///
    /// # Panics
    ///
    /// If it does not stop, or if its socket file stays.
    pub async fn stop(self) -> Vec<Logged> {
        self.stop.send(()).expect("the server still runs");
        timeout(PATIENCE, self.served)
            .await
            .expect("the server stops in time")
            .expect("the server does not panic");
        assert!(!self.socket.exists(), "the socket file is still there");
        std::mem::take(&mut lock(&self.records))
    }
}

/// Tollgate's agent as a dialer, which answers as the peers' agent does and remembers what it was given.
#[derive(Debug)]
pub struct RecordingDialer {
    records: Records,
    stop: oneshot::Sender<()>,
    done: JoinHandle<()>,
}

impl RecordingDialer {
    /// Keeps one connection to the proxy at this socket, as an agent of this name.
    pub fn dial(socket: &Path, agent_id: &str) -> Self {
        let recorder = Recorder::new(|_| {});
        let records = Arc::clone(&recorder.recording.records);
        let dialer = AgentDialer::new(recorder)
            .with_agent_id(agent_id)
            .with_proxy(socket.display().to_string())
            .with_connections(1);
        let (stop, stopped) = oneshot::channel();
        let done = tokio::spawn(async move {
            let stopped = async { stopped.await.unwrap_or_default() };
            dialer
                .run_until(stopped)
                .await
                .expect("the endpoint is one");
        });
        Self {
            records,
            stop,
            done,
        }
    }

    /// Stops the dialer and gives everything that it was told, in order.
    ///
    /// # Panics
    ///
    /// If it does not stop.
    pub async fn stop(self) -> Vec<Logged> {
        self.stop.send(()).expect("the dialer still runs");
        timeout(PATIENCE, self.done)
            .await
            .expect("the dialer stops in time")
            .expect("the dialer does not panic");
        std::mem::take(&mut lock(&self.records))
    }
}

/// What a recorder shares with whoever runs it.
#[derive(Debug, Clone, Default)]
struct Recording {
    records: Records,
    /// Empty once the first words are said.
    control: Arc<Mutex<Option<AgentControl>>>,
}

#[derive(Debug)]
struct Recorder {
    recording: Recording,
    /// What came of each body so far, by event and correlation id.
    bodies: Mutex<HashMap<(&'static str, String), Vec<u8>>>,
    first_words: FirstWords,
}

impl Recorder {
    fn new(first_words: FirstWords) -> Self {
        Self {
            recording: Recording::default(),
            bodies: Mutex::default(),
            first_words,
        }
    }

    fn record(&self, event: &str, value: impl Serialize) {
        let logged = Logged {
            event: event.to_owned(),
            value: serde_json::to_value(value).expect("an event is JSON"),
        };
        lock(&self.recording.records).push(logged);
    }

    /// Whether the text that is not allowed has come in this body, whole or in pieces.
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
            (self.first_words)(&control);
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

    async fn on_configure(&self, event: Configure<'_>) -> bool {
        let is_accepted = event
            .config()
            .is_none_or(|config| config["reject"] != Value::Bool(true));
        self.record("configure", event.settings);
        is_accepted
    }

    fn on_cancel(&self, correlation_id: &str, reason: CancelReason) {
        self.record("cancel", json!([correlation_id, reason.number()]));
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
