//! Agents that implement `AgentHandlerV2`, on both servers.

use super::events::{frame, prompt, request, response};
use super::{TEST_TIMEOUT, assert_fails, eventually};
use async_trait::async_trait;
use serde_json::{Value, json};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use tempfile::TempDir;
use tokio::task::JoinHandle;
use zentinel_agent_protocol::v2::{
    AgentCapabilities, AgentClientV2, AgentClientV2Uds, AgentFeatures, AgentHandlerV2, AgentPool,
    ConfigUpdateType, DrainReason, GrpcAgentServerV2, HandshakeRequest, HandshakeResponse,
    ShutdownReason, UdsAgentServerV2, UdsEncoding,
};
use zentinel_agent_protocol::{
    AgentProtocolError as Error, AgentResponse, BodyMutation, Decision, EventType, HeaderOp,
    RequestBodyChunkEvent, RequestHeadersEvent, ResponseBodyChunkEvent, WebSocketDecision,
    WebSocketFrameEvent,
};

/// Replaces chunks of requests by plain text and those of responses by base64.
#[derive(Default, Clone)]
struct Agent(Arc<Mutex<Vec<String>>>);

impl Agent {
    fn note(&self, text: impl Into<String>) {
        self.0.lock().unwrap().push(text.into());
    }

    fn has_noted(&self, text: &str) -> bool {
        self.0.lock().unwrap().iter().any(|noted| noted == text)
    }
}

#[async_trait]
impl AgentHandlerV2 for Agent {
    fn capabilities(&self) -> AgentCapabilities {
        AgentCapabilities::new("v2", "An agent", "1.0.0")
            .with_event(EventType::RequestBodyChunk)
            .with_features(AgentFeatures::simple())
    }

    async fn on_handshake(&self, request: HandshakeRequest) -> HandshakeResponse {
        self.note(format!("handshake {} {}", request.proxy_id, request.config));
        if request.config["refuse"] == json!("handshake") {
            return HandshakeResponse::failure("not today");
        }
        HandshakeResponse::success(self.capabilities())
    }

    async fn on_request_headers(&self, event: RequestHeadersEvent) -> AgentResponse {
        if event.uri == "/blocked" {
            return AgentResponse::block(403, Some("no".to_owned()));
        }
        AgentResponse::default_allow().add_request_header(HeaderOp::Set {
            name: "x-host".to_owned(),
            value: event.headers["host"].join(","),
        })
    }

    async fn on_request_body_chunk(&self, event: RequestBodyChunkEvent) -> AgentResponse {
        self.note(format!("request body {}", event.data));
        let mutation = BodyMutation::replace(event.chunk_index, "plain text!".to_owned());
        AgentResponse::default_allow().with_request_body_mutation(mutation)
    }

    async fn on_response_body_chunk(&self, event: ResponseBodyChunkEvent) -> AgentResponse {
        let mutation = BodyMutation::replace(event.chunk_index, event.data);
        AgentResponse::default_allow().with_response_body_mutation(mutation)
    }

    async fn on_websocket_frame(&self, event: WebSocketFrameEvent) -> AgentResponse {
        self.note(format!("frame {} {}", event.opcode, event.data));
        AgentResponse::websocket_drop()
    }

    async fn on_configure(&self, config: Value, version: Option<String>) -> bool {
        self.note(format!("configure {config} {version:?}"));
        config["refuse"] != json!("settings")
    }

    async fn on_drain(&self, duration_ms: u64, reason: DrainReason) {
        self.note(format!("drain {duration_ms} {reason:?}"));
    }

    async fn on_shutdown(&self, reason: ShutdownReason, grace_period_ms: u64) {
        self.note(format!("shutdown {grace_period_ms} {reason:?}"));
    }

    async fn on_stream_closed(&self) {
        self.note("closed");
    }
}

/// An agent on a Unix socket, which is stopped when this is dropped.
struct OnSocket {
    agent: Agent,
    path: PathBuf,
    server: JoinHandle<Result<(), Error>>,
    _dir: TempDir,
}

impl OnSocket {
    async fn serve() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("agent.sock");
        let agent = Agent::default();
        let server = spawn_at(&path, &agent).await;
        let _dir = dir;
        Self {
            agent,
            path,
            server,
            _dir,
        }
    }

    async fn client(&self, config: Option<Value>) -> AgentClientV2Uds {
        let path = self.path.to_str().unwrap();
        let client = AgentClientV2Uds::new("v2", path, TEST_TIMEOUT).await;
        let mut client = client.unwrap();
        client.set_config(config);
        client
    }
}

impl Drop for OnSocket {
    fn drop(&mut self) {
        self.server.abort();
    }
}

async fn spawn_at(path: &Path, agent: &Agent) -> JoinHandle<Result<(), Error>> {
    let inode = |path: &Path| {
        use std::os::unix::fs::MetadataExt;
        path.symlink_metadata().ok().map(|file| file.ino())
    };
    let before = inode(path);
    let server = UdsAgentServerV2::new("v2", path, Box::new(agent.clone()));
    let running = tokio::spawn(async move { server.run().await });
    eventually("the server listens", async || inode(path) != before).await;
    running
}

async fn on_grpc() -> (Agent, SocketAddr) {
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = free.local_addr().unwrap();
    drop(free);
    let agent = Agent::default();
    let server = GrpcAgentServerV2::new("v2", Box::new(agent.clone()));
    tokio::spawn(server.run(address));
    eventually("the server listens", async || {
        tokio::net::TcpStream::connect(address).await.is_ok()
    })
    .await;
    (agent, address)
}

fn chunk(data: &str) -> RequestBodyChunkEvent {
    RequestBodyChunkEvent {
        correlation_id: "c-1".to_owned(),
        data: data.to_owned(),
        is_last: true,
        total_size: None,
        chunk_index: 3,
        bytes_received: 5,
    }
}

#[tokio::test]
async fn events_reach_the_handler_as_texts_and_its_mutations_come_back_as_written() {
    let served = OnSocket::serve().await;
    let client = served.client(None).await;
    client.connect().await.unwrap();
    assert_eq!(client.encoding().await, UdsEncoding::MessagePack);
    assert!(client.is_connected().await);

    let answer = client.send_request_headers("c-1", &request("c-1")).await;
    let set = HeaderOp::Set {
        name: "x-host".to_owned(),
        value: "example.com".to_owned(),
    };
    assert_eq!(answer.unwrap().request_headers, [set]);

    let answer = client
        .send_request_body_chunk("c-1", &chunk("aGVsbG8="))
        .await;
    assert!(served.agent.has_noted("request body aGVsbG8="));
    let mutation = answer.unwrap().request_body_mutation.unwrap();
    assert_eq!(mutation, BodyMutation::replace(3, "plain text!".to_owned()));

    client
        .send_response_headers("c-1", &response("c-1"))
        .await
        .unwrap();
    let sent = ResponseBodyChunkEvent {
        correlation_id: "c-1".to_owned(),
        data: "aGVsbG8=".to_owned(),
        is_last: true,
        total_size: Some(5),
        chunk_index: 0,
        bytes_sent: 5,
    };
    let answer = client.send_response_body_chunk("c-1", &sent).await.unwrap();
    let mutation = answer.response_body_mutation.unwrap();
    assert_eq!(mutation, BodyMutation::replace(0, "aGVsbG8=".to_owned()));

    let answer = client
        .send_websocket_frame("c-1", &frame("c-1"))
        .await
        .unwrap();
    assert_eq!(answer.websocket_decision, Some(WebSocketDecision::Drop));
    assert!(served.agent.has_noted("frame text eA=="));

    client.close().await.unwrap();
    eventually("the handler is told", async || {
        served.agent.has_noted("closed")
    })
    .await;
}

#[tokio::test]
async fn requests_with_one_id_get_their_own_answers() {
    let served = OnSocket::serve().await;
    let client = served.client(None).await;
    client.connect().await.unwrap();
    let allowed = request("c-1");
    let mut blocked = request("c-1");
    blocked.uri = "/blocked".to_owned();
    for _ in 0..100 {
        let (first, second) = tokio::join!(
            client.send_request_headers("c-1", &blocked),
            client.send_request_headers("c-1", &allowed),
        );
        assert!(matches!(first.unwrap().decision, Decision::Block { .. }));
        assert_eq!(second.unwrap().decision, Decision::Allow);
    }
}

#[tokio::test]
async fn frame_with_an_unknown_opcode_is_not_sent() {
    let served = OnSocket::serve().await;
    let client = served.client(None).await;
    client.connect().await.unwrap();
    let mut event = frame("c-1");
    event.opcode = "sideways".to_owned();
    assert_fails!(
        client.send_websocket_frame("c-1", &event).await,
        Error::InvalidMessage(_)
    );
}

#[tokio::test]
async fn prompts_are_refused_because_handlers_cannot_inspect_them() {
    let served = OnSocket::serve().await;
    let client = served.client(None).await;
    client.connect().await.unwrap();
    assert_fails!(
        client.send_guardrail_inspect("c-1", &prompt("c-1")).await,
        Error::InvalidMessage(_)
    );
}

#[tokio::test]
async fn settings_come_with_the_handshake_and_once_for_each_connection() {
    let served = OnSocket::serve().await;
    let client = served.client(Some(json!({"rules": 1}))).await;
    client.connect().await.unwrap();
    let expected = [
        r#"handshake zentinel-proxy {"rules":1}"#,
        r#"configure {"rules":1} None"#,
    ];
    assert_eq!(*served.agent.0.lock().unwrap(), expected);
}

#[tokio::test]
async fn agent_refuses_a_handshake_or_its_settings() {
    let served = OnSocket::serve().await;
    let client = served.client(Some(json!({"refuse": "handshake"}))).await;
    let refused = client.connect().await.unwrap_err();
    assert_eq!(refused.to_string(), "Connection failed: not today");

    let client = served.client(Some(json!({"refuse": "settings"}))).await;
    let refused = client.connect().await.unwrap_err().to_string();
    assert!(
        refused.contains("agent rejected its configuration"),
        "{refused}"
    );

    let pool = AgentPool::new();
    let settings = Some(json!({"refuse": "settings"}));
    let endpoint = format!("unix:{}", served.path.display());
    pool.add_agent_with_config("v2", endpoint, settings)
        .await
        .unwrap();
    assert!(!pool.is_agent_healthy("v2"));
    assert_fails!(
        pool.send_request_headers("v2", "c-1", &request("c-1"))
            .await,
        Error::ConnectionFailed(_)
    );
}

#[tokio::test]
async fn pushed_update_is_not_taken_for_settings() {
    let served = OnSocket::serve().await;
    let pool = AgentPool::new();
    let path = served.path.to_str().unwrap();
    pool.add_agent("v2", path).await.unwrap();
    let pushed = pool
        .tollgate()
        .config_pusher()
        .push_to_agent("v2", ConfigUpdateType::RequestReload);
    assert_eq!(pushed, None, "the agent does not announce `config_push`");
    assert!(
        !served
            .agent
            .has_noted(r#"configure {"type":"request_reload"} None"#)
    );
}

#[tokio::test]
async fn agent_is_told_to_drain_and_to_shut_down() {
    let (agent, address) = on_grpc().await;
    let client = AgentClientV2::new("v2", format!("http://{address}"), TEST_TIMEOUT).await;
    let client = client.unwrap();
    client.connect().await.unwrap();
    client
        .send_drain(1500, DrainReason::Maintenance)
        .await
        .unwrap();
    client
        .send_shutdown(ShutdownReason::Upgrade, 2500)
        .await
        .unwrap();
    eventually("the handler is told", async || {
        agent.has_noted("drain 1500 Maintenance") && agent.has_noted("shutdown 2500 Upgrade")
    })
    .await;
}

#[tokio::test]
async fn grpc_client_speaks_to_the_grpc_server() {
    let (agent, address) = on_grpc().await;
    let endpoint = format!("http://{address}");
    let mut client = AgentClientV2::new("v2", endpoint, TEST_TIMEOUT)
        .await
        .unwrap();
    assert_fails!(client.ping().await, Error::ConnectionClosed);
    client.set_config(Some(json!({"rules": 2})));
    client.connect().await.unwrap();
    assert!(agent.has_noted(r#"configure {"rules":2} None"#));
    assert!(client.is_connected().await && client.is_healthy().await);
    assert!(client.can_accept_requests().await);
    assert_eq!(client.health_state().await, 1);
    assert_eq!(client.in_flight_count(), 0);
    assert_eq!(client.capabilities().await.unwrap().name, "An agent");
    client.ping().await.unwrap();
    client.wait_for_flow_control(TEST_TIMEOUT).await.unwrap();

    let mut event = request("c-1");
    event.uri = "/blocked".to_owned();
    let answer = client.send_event(EventType::RequestHeaders, &event).await;
    let decision = answer.unwrap().decision;
    assert!(matches!(decision, Decision::Block { status: 403, .. }));
    assert_fails!(
        client.send_event(EventType::ResponseHeaders, &event).await,
        Error::Serialization(_)
    );
    client
        .send_configure(json!({"rules": 3}), Some("v3".to_owned()))
        .await
        .unwrap();
    assert!(agent.has_noted(r#"configure {"rules":3} Some("v3")"#));
    client.close().await.unwrap();
    assert!(!client.is_connected().await);
}

#[tokio::test]
async fn socket_has_the_mode_that_the_umask_leaves() {
    use std::os::unix::fs::PermissionsExt;
    let served = OnSocket::serve().await;
    let plain = served.path.with_file_name("plain");
    let of_umask = std::os::unix::net::UnixListener::bind(&plain).unwrap();
    let mode = |path: &Path| path.metadata().unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&served.path), mode(&plain));
    drop(of_umask);
}

#[tokio::test]
async fn plain_file_at_the_path_is_replaced() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("agent.sock");
    std::fs::write(&path, "not a socket").unwrap();
    let server = spawn_at(&path, &Agent::default()).await;
    let client = AgentClientV2Uds::new("v2", path.to_str().unwrap(), TEST_TIMEOUT).await;
    client.unwrap().connect().await.unwrap();
    server.abort();
}

#[tokio::test(flavor = "multi_thread")]
async fn rolling_restart_loses_no_request() {
    let mut served = OnSocket::serve().await;
    let pool = Arc::new(AgentPool::new());
    let path = served.path.to_str().unwrap().to_owned();
    pool.add_agent("v2", &path).await.unwrap();
    let (stop, stopped) = tokio::sync::watch::channel(false);
    let callers: Vec<_> = (0..4)
        .map(|caller| {
            let (pool, stopped) = (Arc::clone(&pool), stopped.clone());
            tokio::spawn(async move {
                let mut calls = 0;
                while !*stopped.borrow() {
                    let id = format!("{caller}-{calls}");
                    let answer = pool.send_request_headers("v2", &id, &request(&id)).await;
                    answer.unwrap();
                    pool.clear_correlation_affinity(&id);
                    calls += 1;
                }
                calls
            })
        })
        .collect();
    for _ in 0..3 {
        let next = spawn_at(&served.path, &Agent::default()).await;
        let old = std::mem::replace(&mut served.server, next);
        let ended = tokio::time::timeout(TEST_TIMEOUT, old).await;
        ended.expect("the old server ends").unwrap().unwrap();
    }
    stop.send_replace(true);
    for caller in callers {
        assert!(caller.await.unwrap() > 0);
    }
    assert!(pool.is_agent_healthy("v2"));
}
