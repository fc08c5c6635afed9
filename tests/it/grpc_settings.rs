//! Settings over gRPC between tollgate and peers without its extension: a pong accepts them, and
//! the end of the stream rejects them.

use crate::common::http2::{
    ClientConnection, RawServer, RawStream, SendHalf, ServerConnection, grpc_config, raw_grpc_pool,
};
use crate::common::proto::{
    Value, accept_handshake, allowing, bytes, content, find, number, request, text,
};
use crate::common::{self, call, result_of, serve_grpc, serve_handler};
use serde_json::json;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Notify;
use tollgate::error::{AddError, ConnectError};
use tollgate::{
    Agent, AgentCapabilities, AgentConfig, AgentHandler, AgentPool, AgentPoolConfig, AgentResponse,
    CallError, Encoding, RequestHeadersView,
    control::{AgentFeatures, ConfigUpdateType},
    events::Configure,
};

/// Numbers of gRPC statuses.
const FAILED_PRECONDITION: u16 = 9;
const OK: u16 = 0;

/// Encodes settings as a proxy on `zentinel-agent-protocol` does.
fn configure(config: &str) -> Vec<u8> {
    bytes(10, [bytes(1, config), number(3, 1)].concat())
}

fn ping(sequence: u64) -> Vec<u8> {
    bytes(11, number(1, sequence))
}

fn is_pong(message: &[u8]) -> bool {
    find(message, 7).is_some()
}

/// Receives settings and the ping behind them. Returns the settings and the pong to send.
async fn take_settings(stream: &mut RawStream) -> (Vec<u8>, Vec<u8>) {
    let settings = content(&stream.expect_message().await, 10);
    let ping = content(&stream.expect_message().await, 11);
    let sequence = match find(&ping, 1) {
        Some(Value::Number(sequence)) => sequence,
        _ => 0,
    };
    (settings, bytes(7, number(1, sequence)))
}

fn config_of(settings: &[u8]) -> String {
    text(settings, 1)
}

type Added = Result<Agent, AddError>;

/// Adds an agent with settings, which `play` plays on its first connection.
async fn added_with<P>(
    config: AgentPoolConfig,
    play: impl AsyncFnOnce(ServerConnection, RawStream) -> P,
) -> (RawServer, AgentPool, Added, P) {
    let server = RawServer::listen().await;
    let pool = AgentPool::with_config(config);
    let agent = AgentConfig::new("agent", &*server.endpoint)
        .settings(json!({"mode": "strict"}), None)
        .require_connection();
    let (added, played) = tokio::join!(pool.add(agent), async {
        let (connection, stream) = server.accept_handshake().await;
        play(connection, stream).await
    });
    (server, pool, added, played)
}

fn reason_of(added: Added) -> String {
    match added {
        Err(AddError::Connect {
            agent_id,
            source: ConnectError::SettingsRefused(reason),
            ..
        }) if &*agent_id == "agent" => reason,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn pong_accepts_settings_on_every_connection() {
    let (server, pool, added, (connection, mut stream)) =
        added_with(grpc_config(), async |connection, mut stream| {
            let (settings, pong) = take_settings(&mut stream).await;
            assert_eq!(config_of(&settings), r#"{"mode":"strict"}"#);
            assert_eq!(find(&settings, 3), Some(Value::Number(1)), "is_initial");
            stream.send_message(&pong);
            (connection, stream)
        })
        .await;
    let agent = added.unwrap();
    let pending = call(&pool, "c-1");
    assert_eq!(stream.event().await, "c-1");
    stream.send_message(&allowing("c-1"));
    result_of(pending).await.unwrap();
    let calls = agent.stats().calls;
    assert_eq!((calls.made, calls.answered, calls.given_up), (2, 2, 0));

    connection.kill();
    let (_connection, mut stream) = server.accept_handshake().await;
    let (settings, pong) = take_settings(&mut stream).await;
    assert_eq!(config_of(&settings), r#"{"mode":"strict"}"#);
    assert!(!agent.is_healthy());
    stream.send_message(&pong);
    common::eventually("the connection is used", async || agent.is_healthy()).await;
}

#[tokio::test]
async fn end_of_the_stream_rejects_settings() {
    for (status, reason) in [
        (FAILED_PRECONDITION, "so be it"),
        (OK, "closed by the agent"),
    ] {
        let (_server, pool, added, ()) = added_with(grpc_config(), async |_, mut stream| {
            take_settings(&mut stream).await;
            stream.end_with(status);
            assert_eq!(stream.message().await.unwrap_or_default(), None);
        })
        .await;
        let rejected = reason_of(added);
        assert!(rejected.contains(reason), "{rejected}");
        assert!(pool.agent("agent").is_none());
    }
}

#[tokio::test]
async fn rejection_is_counted_and_the_next_connection_gets_settings_first() {
    let server = RawServer::listen().await;
    let pool = AgentPool::with_config(grpc_config());
    let settings = json!({"mode": "strict"});
    let agent = AgentConfig::new("agent", &*server.endpoint).settings(settings, None);
    let (agent, ()) = tokio::join!(pool.add(agent), async {
        let (_connection, mut stream) = server.accept_handshake().await;
        take_settings(&mut stream).await;
        stream.end_with(FAILED_PRECONDITION);
        assert_eq!(stream.message().await.unwrap_or_default(), None);
    });
    let agent = agent.unwrap();
    assert_fails!(
        agent.send("c-1", &common::request("c-1", "/")).await,
        CallError::Unavailable { .. }
    );
    let (_connection, mut stream) = server.accept_handshake().await;
    let (_, pong) = take_settings(&mut stream).await;
    stream.send_message(&pong);
    common::eventually("the connection is used", async || agent.is_healthy()).await;
    assert_eq!(agent.stats().reconnects, 1);
}

/// An agent that answers settings need not answer the ping as well.
#[tokio::test]
async fn answer_to_settings_counts_without_a_pong() {
    let (_server, _pool, added, _stream) = added_with(grpc_config(), async |_, mut stream| {
        let (settings, _) = take_settings(&mut stream).await;
        stream.send_message(&allowing(&text(&settings, 1000)));
        stream
    })
    .await;
    added.unwrap();
    let (_server, _pool, added, ()) = added_with(grpc_config(), async |_, mut stream| {
        let (settings, pong) = take_settings(&mut stream).await;
        let block = bytes(3, [number(1, 500), bytes(2, "unknown mode")].concat());
        let id = bytes(1, text(&settings, 1000));
        stream.send_message(&bytes(2, [id, block].concat()));
        stream.send_message(&pong);
        assert_eq!(stream.message().await.unwrap_or_default(), None);
    })
    .await;
    assert_eq!(reason_of(added), "unknown mode");
}

/// The time to accept settings is not part of the time to connect.
#[tokio::test]
async fn agent_may_take_longer_over_settings_than_to_connect() {
    let config = grpc_config()
        .connect_timeout(Duration::from_millis(500))
        .request_timeout(Duration::from_millis(10));
    let (_server, _pool, added, _stream) = added_with(config, async |_, mut stream| {
        let (_, pong) = take_settings(&mut stream).await;
        tokio::time::sleep(Duration::from_millis(700)).await;
        stream.send_message(&pong);
        stream
    })
    .await;
    added.unwrap();
}

#[tokio::test]
async fn changed_settings_are_accepted_by_a_pong_and_rejected_by_the_end_of_the_stream() {
    let (server, pool, _connection, mut stream) = raw_grpc_pool(grpc_config()).await;
    let agent = pool.agent("agent").unwrap();
    let (configured, settings) = tokio::join!(agent.configure(json!(1), None), async {
        let (settings, pong) = take_settings(&mut stream).await;
        stream.send_message(&pong);
        settings
    });
    assert_eq!((configured.unwrap(), &*config_of(&settings)), (1, "1"));

    let (configured, settings) = tokio::join!(agent.configure(json!(2), None), async {
        let (settings, _) = take_settings(&mut stream).await;
        stream.end_with(FAILED_PRECONDITION);
        settings
    });
    assert_eq!(config_of(&settings), "2");
    assert_eq!(find(&settings, 3), None, "is_initial");
    let Err(CallError::SettingsRefused { reason, .. }) = &configured else {
        panic!("{configured:?}");
    };
    assert!(reason.contains("so be it"), "{reason}");

    let (_connection, mut stream) = server.accept_handshake().await;
    assert_eq!(config_of(&take_settings(&mut stream).await.0), "1");
}

/// An agent that reads an update as its settings would lose them.
#[tokio::test]
async fn updates_are_not_pushed_to_agents_without_the_extension() {
    let features = bytes(6, number(4, 1));
    let capabilities = [bytes(2, "raw"), bytes(3, "Raw"), bytes(4, "0"), features].concat();
    let accept = bytes(
        1,
        [number(1, 2), bytes(2, capabilities), number(3, 1)].concat(),
    );
    let (_agent, pool, _connection, mut stream) =
        common::http2::raw_grpc_pool_with(grpc_config(), &accept).await;
    let agent = pool.agent("agent").unwrap();
    assert!(agent.capabilities().unwrap().features.config_push);
    let reload = || ConfigUpdateType::RequestReload;
    assert_eq!(agent.push_config(reload()), None);
    assert!(pool.config_pusher().push_to_all(reload()).is_empty());
    let pending = call(&pool, "c-1");
    assert_eq!(stream.event().await, "c-1");
    stream.send_message(&allowing("c-1"));
    result_of(pending).await.unwrap();
}

#[tokio::test]
async fn handshake_carries_settings_that_fit() {
    for (settings, expected) in [
        (Some(json!({"a": 1})), r#"{"a":1}"#),
        (Some(json!("x".repeat(70_000))), "{}"),
        (None, "{}"),
    ] {
        let server = RawServer::listen().await;
        let pool = AgentPool::with_config(grpc_config());
        let mut agent = AgentConfig::new("agent", &*server.endpoint);
        if let Some(settings) = settings {
            agent = agent.settings(settings, None);
        }
        let adding = tokio::spawn(async move { pool.add(agent).await });
        let (_connection, incoming) = server.accept_stream().await;
        let mut stream = incoming.respond();
        let handshake = content(&stream.expect_message().await, 1);
        assert_eq!(text(&handshake, 4), expected);
        stream.send_message(&accept_handshake(Some(1)));
        adding.abort();
    }
}

#[tokio::test]
async fn agent_ends_the_stream_of_a_proxy_whose_settings_it_rejects() {
    let agent = serve_grpc().await;
    let mut proxy = ClientConnection::to(&agent.path).await;
    let mut stream = proxy.shake_hands().await;
    stream.send_message(&configure(r#"{"accept":false}"#));
    stream.send_message(&ping(1));
    stream.send_message(&request("c-1", "/"));
    while let Some(message) = stream.message().await.unwrap() {
        assert!(!is_pong(&message), "a pong would accept the settings");
        assert_eq!(
            find(&content(&message, 2), 1),
            None,
            "answer to the request"
        );
    }
    let (status, reason) = stream.status().await;
    assert_eq!(status, FAILED_PRECONDITION.to_string());
    assert!(reason.contains("Configuration rejected"), "{reason}");
    assert_eq!(
        agent.seen.lock().unwrap().len(),
        1,
        "only the settings arrived"
    );

    let mut stream = proxy.shake_hands().await;
    stream.send_message(&configure(r#"{"accept":true}"#));
    stream.send_message(&ping(2));
    let mut message = stream.expect_message().await;
    if !is_pong(&message) {
        message = stream.expect_message().await;
    }
    assert!(is_pong(&message));
}

/// Decides about settings when it is told to.
struct Undecided {
    decide: Arc<Notify>,
    asked: Arc<Notify>,
}

impl AgentHandler for Undecided {
    fn capabilities(&self) -> AgentCapabilities {
        AgentCapabilities::new("undecided", "Undecided", "1")
            .with_features(AgentFeatures::default())
    }

    async fn on_configure(&self, event: Configure<'_>) -> Result<(), String> {
        let is_accepted = event.config() == Some(&json!(true));
        self.asked.notify_one();
        self.decide.notified().await;
        is_accepted.then_some(()).ok_or_else(|| "no".to_owned())
    }

    async fn on_request_headers(&self, _: RequestHeadersView<'_>) -> AgentResponse {
        AgentResponse::default_allow()
    }
}

#[tokio::test]
async fn pong_and_answers_wait_until_the_agent_has_decided_about_settings() {
    for config in ["true", "false"] {
        let (decide, asked) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
        let handler = Undecided {
            decide: Arc::clone(&decide),
            asked: Arc::clone(&asked),
        };
        let folder = tempfile::tempdir().unwrap();
        let (endpoint, _) = serve_handler(Encoding::Protobuf, &folder, handler).await;
        let mut proxy = ClientConnection::to(&endpoint).await;
        let mut stream = proxy.shake_hands().await;
        stream.send_message(&configure(config));
        stream.send_message(&ping(1));
        stream.send_message(&request("c-1", "/"));
        asked.notified().await;
        // Another stream of the connection is served meanwhile, so this one was read as well.
        let mut other = proxy.shake_hands().await;
        other.send_message(&ping(2));
        assert!(is_pong(&other.expect_message().await));
        let early = tokio::time::timeout(Duration::from_millis(50), stream.message()).await;
        assert!(early.is_err(), "{early:?}");

        decide.notify_one();
        let mut messages = Vec::new();
        while messages.len() < 3
            && let Some(message) = stream.message().await.unwrap()
        {
            messages.push(message);
        }
        let pongs = messages.iter().filter(|message| is_pong(message)).count();
        assert_eq!(pongs, usize::from(config == "true"), "{config}");
        assert_eq!(messages.len(), if config == "true" { 3 } else { 1 });
    }
}
