//! Endpoints without an agent, and agents that do not shake hands.

mod common;

use common::{
    RawAgent, RawConnection, accept_handshake, config, encode, eventually, expect_works, frame,
    raw_pool, request,
};
use serde_json::{Value, json};
use std::path::Path;
use std::time::{Duration, Instant};
use tollgate::{AgentPool, AgentPoolConfig, AgentProtocolError, Encoding};

const JSON: Encoding = Encoding::Json;

/// Why an agent could not be added, without the part that names it.
async fn refusal(pool: &AgentPool, path: &Path) -> String {
    let started = Instant::now();
    let error = pool
        .connect_agent("agent", path.to_str().expect("UTF-8"))
        .await;
    let error = error.expect_err("it is added").to_string();
    assert!(
        started.elapsed() < Duration::from_secs(1),
        "{error}: too late"
    );
    let about = format!("agent 'agent' at {}: ", path.display());
    error
        .strip_prefix(&about)
        .unwrap_or_else(|| panic!("{error}"))
        .to_owned()
}

async fn expect_unknown(pool: &AgentPool) {
    let sent = pool.send("agent", "c-1", &request("c-1", "/")).await;
    assert_fails!(sent, AgentProtocolError::UnknownAgent { .. });
    assert!(pool.agent_ids().is_empty());
}

#[tokio::test]
async fn an_endpoint_without_an_agent_is_named_with_the_cause() {
    let dir = tempfile::tempdir().unwrap();
    let [missing, file, stale] = ["missing", "file", "stale"].map(|name| dir.path().join(name));
    std::fs::write(&file, "text").unwrap();
    drop(std::os::unix::net::UnixListener::bind(&stale).unwrap());
    let pool = AgentPool::new();
    for (path, cause) in [
        (missing.as_path(), "no such socket"),
        (&missing.join("below"), "no such socket"),
        (&file, "not a socket"),
        (dir.path(), "not a socket"),
        (&stale, "connection refused, nobody listens"),
    ] {
        assert_eq!(refusal(&pool, path).await, cause, "{}", path.display());
        expect_unknown(&pool).await;
    }
    assert_eq!(std::fs::read_to_string(&file).unwrap(), "text");
}

/// What is said in place of the handshake response.
struct Said {
    bytes: Vec<u8>,
    /// Whether the agent closes the connection behind it.
    closes: bool,
}

impl Said {
    fn frame(message: u8, payload: &[u8]) -> Self {
        Self::bytes(frame(message, payload))
    }

    fn response(change: impl FnOnce(&mut Value)) -> Self {
        let mut response = accept_handshake("json");
        change(&mut response);
        Self::frame(0x02, response.to_string().as_bytes())
    }

    fn bytes(bytes: impl Into<Vec<u8>>) -> Self {
        Self {
            bytes: bytes.into(),
            closes: false,
        }
    }

    fn then_closes(self) -> Self {
        Self {
            closes: true,
            ..self
        }
    }
}

async fn refusal_of(said: Said) -> String {
    let agent = RawAgent::listen();
    let pool = AgentPool::with_config(config(JSON));
    let play = async {
        let mut connection = agent.accept().await;
        assert_eq!(connection.message().await.0, 0x01);
        connection.send_bytes(&said.bytes).await;
        if !said.closes {
            connection.expect_end().await;
        }
    };
    let (refusal, ()) = tokio::join!(refusal(&pool, &agent.path), play);
    expect_unknown(&pool).await;
    refusal
}

#[tokio::test]
async fn a_refusal_says_why() {
    let refused = |error: Value| {
        Said::response(|response| {
            response["success"] = json!(false);
            response["error"] = error;
        })
    };
    for (said, cause) in [
        (refused(json!("go away")), "handshake refused: go away"),
        (refused(json!(null)), "handshake refused: no reason given"),
        (
            Said::response(|response| response["protocol_version"] = json!(3)),
            "handshake failed: protocol version 3, expected 2",
        ),
        (
            Said::response(|response| response["encoding"] = json!("msgpack")),
            "handshake failed: the agent chose an encoding that was not offered",
        ),
    ] {
        assert_eq!(refusal_of(said).await, cause);
    }
}

#[tokio::test]
async fn what_is_no_handshake_is_refused_at_once() {
    let changed =
        |field: &'static str, value: Value| Said::response(move |response| response[field] = value);
    let announced = |length: u32| Said::bytes(length.to_be_bytes());
    for (what, said) in [
        ("not JSON", Said::frame(0x02, b"\x81\xa7success\xc3")),
        ("empty", Said::frame(0x02, b"")),
        ("another value", Said::frame(0x02, b"[]")),
        ("fields missing", Said::frame(0x02, b"{}")),
        ("cut JSON", Said::frame(0x02, b"{\"protocol_version\":2,")),
        ("success of a wrong type", changed("success", json!("yes"))),
        (
            "capabilities of a wrong type",
            changed("capabilities", json!(7)),
        ),
        ("an unknown encoding", changed("encoding", json!("xml"))),
        ("another message", Said::frame(0x20, b"{}")),
        ("an unknown message", Said::frame(0xff, b"{}")),
        ("length 0", announced(0)),
        ("more than 64 KiB", announced(64 * 1024 + 1)),
        ("more than 16 MiB", announced(16 * 1024 * 1024 + 1)),
        ("text", Said::bytes("HTTP/1.1 400 Bad Request\r\n\r\n")),
        ("closed", Said::bytes("").then_closes()),
        (
            "closed within the header",
            Said::bytes([0, 0]).then_closes(),
        ),
        (
            "closed within the payload",
            Said::bytes(b"\0\0\0\x09\x02{".as_slice()).then_closes(),
        ),
    ] {
        let refusal = refusal_of(said).await;
        assert!(
            refusal.starts_with("handshake failed: "),
            "{what}: {refusal}"
        );
    }
}

#[tokio::test]
async fn a_stalled_handshake_times_out() {
    let connect_timeout = Duration::from_millis(100);
    let config = AgentPoolConfig {
        connect_timeout,
        ..config(JSON)
    };
    let response = frame(0x02, accept_handshake("json").to_string().as_bytes());
    for said in [0, 3, 5, response.len() - 1] {
        let agent = RawAgent::listen();
        let pool = AgentPool::with_config(config.clone());
        let stall = async {
            let mut connection = agent.accept().await;
            connection.send_bytes(&response[..said]).await;
            connection
        };
        let (refusal, _open) = tokio::join!(refusal(&pool, &agent.path), stall);
        assert_eq!(refusal, "timed out after 100ms", "{said} bytes");
        expect_unknown(&pool).await;
    }
}

#[tokio::test]
async fn an_agent_that_never_accepts_times_out() {
    let agent = RawAgent::listen();
    let connect_timeout = Duration::from_millis(100);
    let pool = AgentPool::with_config(AgentPoolConfig {
        connect_timeout,
        ..config(JSON)
    });
    assert_eq!(refusal(&pool, &agent.path).await, "timed out after 100ms");
}

#[tokio::test]
async fn one_connection_that_fails_takes_the_others_along() {
    let agent = RawAgent::listen();
    let pool = AgentPool::new();
    let play = async {
        let mut accepted = [agent.accept_in(JSON).await, agent.accept_in(JSON).await];
        drop(agent.accept().await);
        for connection in &mut accepted {
            connection.expect_end().await;
        }
    };
    let (refusal, ()) = tokio::join!(refusal(&pool, &agent.path), play);
    assert_eq!(refusal, "handshake failed: connection closed");
    expect_unknown(&pool).await;
}

#[tokio::test]
async fn a_replacement_that_fails_leaves_the_agent_in_place() {
    let (agent, pool, mut connection) = raw_pool(config(JSON)).await;
    assert_eq!(
        refusal(&pool, &agent.path.with_extension("missing")).await,
        "no such socket"
    );
    expect_works(&pool, &mut connection, "c-1").await;
}

/// Adds an agent that answers the handshake with `write`; returns its connection.
async fn added(
    agent: &RawAgent,
    pool: &AgentPool,
    write: impl AsyncFnOnce(&mut RawConnection),
) -> RawConnection {
    let accept = async {
        let mut connection = agent.accept().await;
        assert_eq!(connection.message().await.0, 0x01);
        write(&mut connection).await;
        connection
    };
    let endpoint = agent.path.display().to_string();
    let (added, connection) = tokio::join!(pool.connect_agent("agent", endpoint), accept);
    added.expect("the agent is added");
    connection
}

#[tokio::test]
async fn a_handshake_may_be_unusual() {
    let full = frame(0x02, accept_handshake("json").to_string().as_bytes());
    let mut largest = r#"{"protocol_version":2,"success":true,"new_field":""#.to_owned();
    largest.extend(std::iter::repeat_n('x', 64 * 1024 - 3 - largest.len()));
    largest.push_str("\"}");
    for (what, bytes, step) in [
        (
            "little",
            frame(0x02, br#"{"protocol_version":2,"success":true}"#),
            4096,
        ),
        ("much", frame(0x02, largest.as_bytes()), 4096),
        ("byte by byte", full, 1),
    ] {
        let (agent, pool) = (RawAgent::listen(), AgentPool::with_config(config(JSON)));
        let mut connection = added(&agent, &pool, async |connection| {
            for piece in bytes.chunks(step) {
                connection.send_bytes(piece).await;
                tokio::task::yield_now().await;
            }
        })
        .await;
        assert_eq!(pool.agent_encoding("agent"), Some(JSON), "{what}");
        expect_works(&pool, &mut connection, "c-1").await;
    }
}

#[tokio::test]
async fn what_an_agent_says_right_behind_its_handshake_is_heard() {
    let (agent, pool) = (RawAgent::listen(), AgentPool::with_config(config(JSON)));
    let mut connection = added(&agent, &pool, async |connection| {
        let mut bytes = frame(0x02, &encode(JSON, &accept_handshake("json")));
        bytes.extend(frame(0x30, br#"{"state":4}"#));
        bytes.extend(frame(0x41, b"ping"));
        connection.send_bytes(&bytes).await;
    })
    .await;
    assert_eq!(connection.receive().await, Some((0x42, b"ping".to_vec())));
    eventually("the report is heard", async || {
        pool.agent_stats("agent").await.unwrap().healthy_connections == 0
    })
    .await;
}
