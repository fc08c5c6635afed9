//! Tollgate over gRPC with `zentinel-agent-protocol` 0.6.54, and with Python programs that use
//! grpcio.

#![allow(clippy::unwrap_used, reason = "a failure here fails the test")]

use serde_json::{Value, json};
use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::process::{Output, Stdio};
use std::time::Duration;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::Command;
use tokio::time::timeout;
use tollgate::{
    Agent, AgentCapabilities, AgentConfig, AgentHandler, AgentPool, AgentPoolConfig, AgentResponse,
    AgentServer, BodyChunk, Bytes, Decision, Encoding, EventType, RequestHeadersView,
    ResponseHeadersView, control::AgentFeatures, events::RequestBodyChunkEvent,
};
use tollgate_interop::{
    AGENT, Peer, PeerAgent, URIS, Version, Via, blocked_by_body, events, run_client, to_uri,
};

const TIMEOUT: Duration = Duration::from_secs(20);

/// Agent that answers as the peers' agent does.
struct Rules;

impl AgentHandler for Rules {
    fn capabilities(&self) -> AgentCapabilities {
        EventType::ALL
            .into_iter()
            .fold(
                AgentCapabilities::new("rules", "Rules", "1.2.3"),
                AgentCapabilities::with_event,
            )
            .with_features(AgentFeatures::full())
    }

    async fn on_request_headers(&self, event: RequestHeadersView<'_>) -> AgentResponse {
        to_uri(event.uri)
    }

    async fn on_request_body_chunk(&self, event: BodyChunk<'_>) -> AgentResponse {
        match &event.data[..] {
            b"BLOCK-ME" => blocked_by_body(),
            _ => AgentResponse::default_allow(),
        }
    }

    async fn on_response_headers(&self, event: ResponseHeadersView<'_>) -> AgentResponse {
        AgentResponse::block(event.status, None)
    }
}

/// Serves [`Rules`] and returns the endpoint.
async fn serve_rules() -> String {
    let server = AgentServer::builder(Rules).listen("grpc://127.0.0.1:0");
    let bound = server.bind().await.unwrap();
    let endpoint = bound.endpoints().remove(0);
    tokio::spawn(bound.serve());
    endpoint
}

async fn connect(endpoint: &str) -> (AgentPool, Agent) {
    let pool = AgentPool::with_config(
        AgentPoolConfig::default()
            .connections_per_agent(1)
            .connect_timeout(TIMEOUT)
            .request_timeout(TIMEOUT),
    );
    let agent = pool
        .add(AgentConfig::new(AGENT, endpoint).require_connection())
        .await
        .unwrap();
    assert_eq!(agent.encoding(), Some(Encoding::Protobuf));
    (pool, agent)
}

/// Removes what the messages of `zentinel-agent-protocol` have no fields for.
fn without_lost_fields(mut response: AgentResponse) -> AgentResponse {
    response.routing_metadata = HashMap::new();
    response.request_body_mutation = None;
    response.websocket_decision = None;
    response
}

fn zentinel() -> Peer {
    Peer::find(Version::V0_6_54, Encoding::MessagePack)
}

#[tokio::test]
async fn tollgate_pool_calls_zentinel_agent() {
    let mut peer = PeerAgent::start_grpc(&zentinel()).await;
    let (_pool, agent) = connect(peer.socket().to_str().unwrap()).await;
    assert_eq!(peer.next_event().await.event, "handshake");
    for uri in URIS {
        let event = events::request_headers(uri, uri);
        let answer = agent.send(uri, &event).await.unwrap();
        assert_eq!(answer, without_lost_fields(to_uri(uri)), "{uri}");
        let logged = peer.next_event().await;
        assert_eq!(logged.event, "request_headers");
        let sent = serde_json::to_value(&event).unwrap();
        for field in ["method", "uri"] {
            assert_eq!(logged.value[field], sent[field]);
        }
        for field in ["correlation_id", "client_ip", "client_port", "traceparent"] {
            assert_eq!(logged.value["metadata"][field], sent["metadata"][field]);
        }
    }
    let data = Bytes::from_static(b"a BLOCK-ME b");
    let chunk = RequestBodyChunkEvent::new("body", data, 0, true);
    let answer = agent.send("body", &chunk).await;
    assert_eq!(answer.unwrap(), blocked_by_body());
    let logged = peer.next_event().await;
    assert_eq!(logged.value, serde_json::to_value(&chunk).unwrap());
}

#[tokio::test]
async fn zentinel_pool_calls_tollgate_agent() {
    let endpoint = serve_rules().await;
    let lines = run_client(&zentinel(), Via::Pool, Path::new(&endpoint)).await;
    let answered = |line: &&Value| line["ok"] == true && line["response"]["decision"].is_object();
    let decisions: Vec<_> = lines
        .iter()
        .filter(answered)
        .map(|line| line["response"]["decision"].clone())
        .collect();
    assert_eq!(lines[0]["capabilities"]["agent_id"], "rules");
    assert_eq!(lines.last().unwrap()["call"], "end");
    for uri in ["/block-bare", "/redirect", "/challenge"] {
        let expected = serde_json::to_value(to_uri(uri).decision).unwrap();
        assert!(decisions.contains(&expected), "{uri}: {lines:?}");
    }
}

/// Returns the Python interpreter that `scripts/python-peers` installs, and the peer's program.
fn python() -> (PathBuf, PathBuf) {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let made = std::process::Command::new(root.join("scripts/python-peers")).status();
    assert!(made.unwrap().success(), "scripts/python-peers failed");
    let python = root.join("target/python-peers/bin/python");
    (python, root.join("scripts/python_peer.py"))
}

#[tokio::test]
async fn tollgate_pool_calls_python_agent() {
    let (python, program) = python();
    let mut process = Command::new(python)
        .arg(program)
        .arg("agent")
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(process.stdout.take().unwrap()).lines();
    let ready = timeout(TIMEOUT, lines.next_line()).await.unwrap().unwrap();
    let (_pool, agent) = connect(&ready.expect("the agent starts")).await;
    for (uri, decision) in [
        ("/allow", Decision::Allow),
        (
            "/block",
            AgentResponse::block(403, Some("no".into())).decision,
        ),
    ] {
        let event = events::request_headers(uri, uri);
        let answer = agent.send(uri, &event).await.unwrap();
        assert_eq!(answer.decision, decision);
        assert_eq!(answer.audit.custom["uri"], json!(uri));
        assert_eq!(
            answer.audit.custom["tls_cipher"],
            json!(event.metadata.tls_cipher)
        );
    }
    let data = Bytes::from_static(b"\x00\xff");
    let chunk = RequestBodyChunkEvent::new("body", data.clone(), 3, true);
    let answer = agent.send("body", &chunk).await.unwrap();
    let mutation = answer.request_body_mutation.unwrap();
    assert_eq!((mutation.data, mutation.chunk_index), (Some(data), 3));
}

#[tokio::test]
async fn python_proxy_calls_tollgate_agent() {
    let (python, program) = python();
    let endpoint = serve_rules().await;
    let running = Command::new(python)
        .arg(program)
        .arg("proxy")
        .arg(&endpoint)
        .output();
    let Output {
        status,
        stdout,
        stderr,
    } = timeout(TIMEOUT, running).await.unwrap().unwrap();
    assert!(status.success(), "{}", String::from_utf8_lossy(&stderr));
    let printed: Value = serde_json::from_slice(&stdout).unwrap();
    assert_eq!(
        printed,
        json!({
            "agent_id": "rules",
            "allow": "allow",
            "block": {"status": 451},
            "unary": {"status": 451},
            "pong": 7,
            "health": "SERVING",
            "services": [
                "grpc.health.v1.Health",
                "grpc.reflection.v1.ServerReflection",
                "zentinel.agent.v2.AgentServiceV2",
            ],
        })
    );
}
