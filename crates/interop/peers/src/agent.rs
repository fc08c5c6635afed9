//! The agent: the server of zentinel-agent-protocol with a handler that prints each
//! event and answers by fixed rules (see [`answers`](crate::answers)).
//!
//! The server does not report cancels, pings and guardrail events to the handler. It
//! cannot send health, metrics, flow control or config updates.

use crate::bodies::{Bodies, Direction};
use crate::encoding::{self, Expected};
use crate::{answers, output};
use anyhow::{Context as _, Result};
use async_trait::async_trait;
use serde::Serialize;
use serde_json::{json, Value};
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::time::Duration;
use tokio::net::{TcpStream, UnixStream};
use zentinel_agent_protocol::v2::{
    AgentCapabilities, AgentFeatures, AgentHandlerV2, DrainReason, GrpcAgentServerV2,
    HandshakeRequest, HandshakeResponse, ShutdownReason, UdsAgentServerV2,
};
use zentinel_agent_protocol::{
    AgentResponse, BinaryRequestBodyChunkEvent, BinaryResponseBodyChunkEvent, EventType,
    RequestBodyChunkEvent, RequestCompleteEvent, RequestHeadersEvent, ResponseBodyChunkEvent,
    ResponseHeadersEvent, WebSocketFrameEvent,
};

/// The command line of `agent`.
#[derive(clap::Args)]
pub struct Args {
    /// The socket to listen on, where an existing file is removed, or `grpc://ADDRESS:PORT`.
    #[arg(long, value_name = "PATH")]
    listen: PathBuf,
    /// Fail unless this build always uses this encoding.
    #[arg(long, value_enum, default_value = "auto")]
    encoding: Expected,
    /// Block requests whose URI starts with this.
    #[arg(long, value_name = "PREFIX")]
    block_path: Option<String>,
    /// Block bodies that contain this.
    #[arg(long, value_name = "TEXT")]
    block_body: Option<String>,
    /// Do not print events.
    #[arg(long)]
    quiet: bool,
}

/// Serves until the process is killed.
pub async fn run(args: Args) -> Result<()> {
    args.encoding.check_agent()?;
    let handler = Recorder {
        quiet: args.quiet,
        block_path: args.block_path,
        bodies: Bodies::new(args.block_body),
    };
    tokio::select! {
        served = serve(&args.listen, handler) => served,
        announced = announce(&args.listen) => announced,
    }
}

/// Returns the address of a path of the form `grpc://ADDRESS:PORT`.
pub fn grpc_address(path: &Path) -> Option<&str> {
    path.to_str()?.strip_prefix("grpc://")
}

/// Serves a socket, or gRPC, with a handler. Returns only if that fails.
async fn serve(path: &Path, handler: Recorder) -> Result<()> {
    if let Some(address) = grpc_address(path) {
        let address = address.parse().context("not an address and a port")?;
        return GrpcAgentServerV2::new("peer", Box::new(handler))
            .run(address)
            .await
            .with_context(|| format!("cannot listen on {}", path.display()));
    }
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != ErrorKind::NotFound => {
            return Err(error).with_context(|| format!("cannot remove {}", path.display()));
        }
        _ => {}
    }
    UdsAgentServerV2::new("peer", path, Box::new(handler))
        .run()
        .await
        .with_context(|| format!("cannot listen on {}", path.display()))
}

/// Returns once the server listens on the socket. The server does not report this,
/// so the function tries to connect.
async fn wait_until_listening(path: &Path) {
    if let Some(address) = grpc_address(path) {
        while TcpStream::connect(address).await.is_err() {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        return;
    }
    while UnixStream::connect(path).await.is_err() {
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

/// Prints a line when the socket is ready, and then waits for ever.
async fn announce(path: &Path) -> Result<()> {
    wait_until_listening(path).await;
    output::emit(&json!({
        "ready": true,
        "path": path,
        "version": env!("CARGO_PKG_VERSION"),
        "encodings": encoding::built_in(),
    }))?;
    std::future::pending().await
}

/// The handler, which prints each event before it answers.
pub struct Recorder {
    quiet: bool,
    block_path: Option<String>,
    bodies: Bodies,
}

impl Recorder {
    /// Creates a handler that prints every event and blocks bodies with this text.
    pub fn new(block_body: Option<String>) -> Self {
        Self {
            quiet: false,
            block_path: None,
            bodies: Bodies::new(block_body),
        }
    }

    fn record(&self, event: &str, value: &impl Serialize) {
        if !self.quiet {
            output::emit_or_exit(&json!({"event": event, "value": value}));
        }
    }

    fn is_blocked(&self, uri: &str) -> bool {
        self.block_path
            .as_deref()
            .is_some_and(|prefix| uri.starts_with(prefix))
    }

    fn chunk(&self, to: Direction, id: &str, data: &[u8], index: u32, last: bool) -> AgentResponse {
        if self.bodies.take(to, id, data, last) {
            answers::blocked_by_body()
        } else {
            answers::to_chunk(to, data, index)
        }
    }
}

#[async_trait]
impl AgentHandlerV2 for Recorder {
    fn capabilities(&self) -> AgentCapabilities {
        [
            EventType::Configure,
            EventType::RequestHeaders,
            EventType::RequestBodyChunk,
            EventType::ResponseHeaders,
            EventType::ResponseBodyChunk,
            EventType::RequestComplete,
            EventType::WebSocketFrame,
            EventType::GuardrailInspect,
        ]
        .into_iter()
        .fold(
            AgentCapabilities::new("peer", env!("CARGO_PKG_NAME"), env!("CARGO_PKG_VERSION")),
            AgentCapabilities::with_event,
        )
        .with_features(AgentFeatures::full())
    }

    /// Accepts every handshake except those with `"reject_handshake": true` in their settings.
    async fn on_handshake(&self, request: HandshakeRequest) -> HandshakeResponse {
        self.record("handshake", &request);
        if request.config["reject_handshake"] == true {
            return HandshakeResponse::failure("Handshake rejected");
        }
        HandshakeResponse::success(self.capabilities())
    }

    async fn on_request_headers(&self, event: RequestHeadersEvent) -> AgentResponse {
        self.record("request_headers", &event);
        if self.is_blocked(&event.uri) {
            answers::blocked_by_path()
        } else {
            answers::to_uri(&event.uri)
        }
    }

    async fn on_request_body_chunk(&self, event: RequestBodyChunkEvent) -> AgentResponse {
        self.record("request_body_chunk", &event);
        let chunk = BinaryRequestBodyChunkEvent::from(&event);
        self.chunk(
            Direction::Request,
            &chunk.correlation_id,
            &chunk.data,
            chunk.chunk_index,
            chunk.is_last,
        )
    }

    async fn on_response_headers(&self, event: ResponseHeadersEvent) -> AgentResponse {
        self.record("response_headers", &event);
        AgentResponse::default_allow()
    }

    async fn on_response_body_chunk(&self, event: ResponseBodyChunkEvent) -> AgentResponse {
        self.record("response_body_chunk", &event);
        let chunk = BinaryResponseBodyChunkEvent::from(&event);
        self.chunk(
            Direction::Response,
            &chunk.correlation_id,
            &chunk.data,
            chunk.chunk_index,
            chunk.is_last,
        )
    }

    async fn on_request_complete(&self, event: RequestCompleteEvent) -> AgentResponse {
        self.record("request_complete", &event);
        self.bodies.forget(&event.correlation_id);
        AgentResponse::default_allow()
    }

    async fn on_websocket_frame(&self, event: WebSocketFrameEvent) -> AgentResponse {
        self.record("websocket_frame", &event);
        answers::to_frame(&event.data)
    }

    /// Accepts every configuration except those with `"reject": true`.
    async fn on_configure(&self, config: Value, version: Option<String>) -> bool {
        let accepted = config.get("reject") != Some(&Value::Bool(true));
        self.record("configure", &json!({"config": config, "version": version}));
        accepted
    }

    async fn on_shutdown(&self, reason: ShutdownReason, grace_period_ms: u64) {
        let reason = format!("{reason:?}");
        let value = json!({"reason": reason, "grace_period_ms": grace_period_ms});
        self.record("shutdown", &value);
    }

    async fn on_drain(&self, duration_ms: u64, reason: DrainReason) {
        let reason = format!("{reason:?}");
        self.record(
            "drain",
            &json!({"duration_ms": duration_ms, "reason": reason}),
        );
    }

    async fn on_stream_closed(&self) {
        self.record("stream_closed", &Value::Null);
    }
}
