//! Connecting: endpoints without an agent, and agents that fail the handshake.

use crate::common::{
    RawAgent, RawConnection, RuleAgent, accept_handshake, config, encode, eventually, expect_works,
    frame, message, raw_pool,
};
use serde_json::{Value, json};
use std::path::Path;
use std::time::{Duration, Instant};
use tollgate::{AgentConfig, AgentPool, AgentServer, ConnectError, Encoding};

const JSON: Encoding = Encoding::Json;

/// Returns why an agent could not be added, without the part of the text that names it.
async fn connect_error(pool: &AgentPool, path: &Path) -> String {
    let started = Instant::now();
    let error = pool
        .replace(AgentConfig::new("agent", path.to_str().expect("UTF-8")).require_connection())
        .await;
    let error = error.expect_err("it is added").to_string();
    assert!(
        started.elapsed() < Duration::from_secs(1),
        "{error}: too late"
    );
    let about = format!("cannot connect to agent 'agent' at {}: ", path.display());
    error
        .strip_prefix(&about)
        .unwrap_or_else(|| panic!("{error}"))
        .to_owned()
}

fn expect_unknown(pool: &AgentPool) {
    assert!(pool.agent("agent").is_none());
    assert!(crate::common::agent_ids(pool).is_empty());
}

#[tokio::test]
async fn missing_agent_is_reported_with_path_and_cause() {
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
        (&stale, "connection refused, no process listens there"),
    ] {
        assert_eq!(
            connect_error(&pool, path).await,
            cause,
            "{}",
            path.display()
        );
        expect_unknown(&pool);
    }

    assert_eq!(std::fs::read_to_string(&file).unwrap(), "text");
}

/// Bytes that an agent sends in place of the handshake response.
struct Reply {
    bytes: Vec<u8>,
    /// `true` if the agent closes the connection after it.
    closes: bool,
}

impl Reply {
    fn frame(message: u8, payload: &[u8]) -> Self {
        Self::bytes(frame(message, payload))
    }

    fn response(change: impl FnOnce(&mut Value)) -> Self {
        let mut response = accept_handshake("json");
        change(&mut response);
        Self::frame(message::HANDSHAKE_RESPONSE, response.to_string().as_bytes())
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

async fn connect_error_of(reply: Reply) -> String {
    let agent = RawAgent::listen();
    let pool = AgentPool::with_config(config(JSON));
    let play = async {
        let mut connection = agent.accept().await;
        assert_eq!(connection.message().await.0, message::HANDSHAKE_REQUEST);
        connection.send_bytes(&reply.bytes).await;
        if !reply.closes {
            connection.expect_end().await;
        }
    };

    let (error, ()) = tokio::join!(connect_error(&pool, &agent.path), play);
    expect_unknown(&pool);
    error
}

#[tokio::test]
async fn rejected_handshake_reports_the_reason() {
    let rejected = |error: Value| {
        Reply::response(|response| {
            response["success"] = json!(false);
            response["error"] = error;
        })
    };
    for (reply, cause) in [
        (rejected(json!("go away")), "handshake rejected: go away"),
        (rejected(json!(null)), "handshake rejected: no reason given"),
        (
            Reply::response(|response| response["protocol_version"] = json!(3)),
            "handshake failed: the agent speaks protocol version 3, expected 2",
        ),
        (
            Reply::response(|response| response["encoding"] = json!("msgpack")),
            "handshake failed: the agent chose an encoding that was not offered",
        ),
    ] {
        assert_eq!(connect_error_of(reply).await, cause);
    }
}

#[tokio::test]
async fn invalid_handshake_response_is_rejected_at_once() {
    let changed = |field: &'static str, value: Value| {
        Reply::response(move |response| response[field] = value)
    };
    let announced = |length: u32| Reply::bytes(length.to_be_bytes());

    for (what, reply) in [
        (
            "not JSON",
            Reply::frame(message::HANDSHAKE_RESPONSE, b"\x81\xa7success\xc3"),
        ),
        ("empty", Reply::frame(message::HANDSHAKE_RESPONSE, b"")),
        (
            "another value",
            Reply::frame(message::HANDSHAKE_RESPONSE, b"[]"),
        ),
        (
            "fields missing",
            Reply::frame(message::HANDSHAKE_RESPONSE, b"{}"),
        ),
        (
            "cut JSON",
            Reply::frame(message::HANDSHAKE_RESPONSE, b"{\"protocol_version\":2,"),
        ),
        ("success of a wrong type", changed("success", json!("yes"))),
        (
            "capabilities of a wrong type",
            changed("capabilities", json!(7)),
        ),
        ("an unknown encoding", changed("encoding", json!("xml"))),
        (
            "another message",
            Reply::frame(message::AGENT_RESPONSE, b"{}"),
        ),
        ("an unknown message", Reply::frame(message::UNKNOWN, b"{}")),
        ("length 0", announced(0)),
        ("more than 64 KiB", announced(64 * 1024 + 1)),
        ("more than 16 MiB", announced(16 * 1024 * 1024 + 1)),
        ("text", Reply::bytes("HTTP/1.1 400 Bad Request\r\n\r\n")),
        ("closed", Reply::bytes("").then_closes()),
        (
            "closed within the header",
            Reply::bytes([0, 0]).then_closes(),
        ),
        (
            "closed within the payload",
            Reply::bytes(b"\0\0\0\x09\x02{".as_slice()).then_closes(),
        ),
    ] {
        let error = connect_error_of(reply).await;
        assert!(error.starts_with("handshake failed: "), "{what}: {error}");
    }
}

#[tokio::test]
async fn stalled_handshake_times_out() {
    let connect_timeout = Duration::from_millis(100);
    let config = config(JSON).connect_timeout(connect_timeout);

    let response = frame(
        message::HANDSHAKE_RESPONSE,
        accept_handshake("json").to_string().as_bytes(),
    );

    for length in [0, 3, 5, response.len() - 1] {
        let agent = RawAgent::listen();
        let pool = AgentPool::with_config(config.clone());
        let stall = async {
            let mut connection = agent.accept().await;
            connection.send_bytes(&response[..length]).await;
            connection
        };
        let (error, _open) = tokio::join!(connect_error(&pool, &agent.path), stall);
        assert_eq!(error, "timed out after 100ms", "{length} bytes");
        expect_unknown(&pool);
    }
}

#[tokio::test]
async fn agent_that_never_accepts_times_out() {
    let agent = RawAgent::listen();
    let connect_timeout = Duration::from_millis(100);
    let pool = AgentPool::with_config(config(JSON).connect_timeout(connect_timeout));
    assert_eq!(
        connect_error(&pool, &agent.path).await,
        "timed out after 100ms"
    );
}

#[tokio::test]
async fn one_failed_connection_closes_the_others() {
    let agent = RawAgent::listen();
    let pool = AgentPool::new();

    let play = async {
        let mut accepted = [agent.accept_in(JSON).await, agent.accept_in(JSON).await];
        drop(agent.accept().await);
        for connection in &mut accepted {
            connection.expect_end().await;
        }
    };

    let (error, ()) = tokio::join!(connect_error(&pool, &agent.path), play);
    assert_eq!(error, "handshake failed: the peer closed the connection");
    expect_unknown(&pool);
}

#[tokio::test]
async fn failed_replacement_keeps_the_old_agent() {
    let (agent, pool, mut connection) = raw_pool(config(JSON)).await;
    assert_eq!(
        connect_error(&pool, &agent.path.with_extension("missing")).await,
        "no such socket"
    );
    expect_works(&pool, &mut connection, "c-1").await;
}

/// Adds an agent that answers the handshake with `write`. Returns its connection.
async fn added(
    agent: &RawAgent,
    pool: &AgentPool,
    write: impl AsyncFnOnce(&mut RawConnection),
) -> RawConnection {
    let accept = async {
        let mut connection = agent.accept().await;
        assert_eq!(connection.message().await.0, message::HANDSHAKE_REQUEST);
        write(&mut connection).await;
        connection
    };
    let endpoint = agent.path.display().to_string();
    let (added, connection) = tokio::join!(
        pool.add(AgentConfig::new("agent", endpoint).require_connection()),
        accept
    );
    added.expect("the agent is added");
    connection
}

#[tokio::test]
async fn minimal_large_and_slow_handshakes_are_accepted() {
    let full = frame(
        message::HANDSHAKE_RESPONSE,
        accept_handshake("json").to_string().as_bytes(),
    );

    let mut largest = r#"{"protocol_version":2,"success":true,"new_field":""#.to_owned();
    largest.extend(std::iter::repeat_n('x', 64 * 1024 - 3 - largest.len()));
    largest.push_str("\"}");

    for (what, bytes, step) in [
        (
            "little",
            frame(
                message::HANDSHAKE_RESPONSE,
                br#"{"protocol_version":2,"success":true}"#,
            ),
            4096,
        ),
        (
            "much",
            frame(message::HANDSHAKE_RESPONSE, largest.as_bytes()),
            4096,
        ),
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

        assert_eq!(
            pool.agent("agent").unwrap().encoding(),
            Some(JSON),
            "{what}"
        );
        expect_works(&pool, &mut connection, "c-1").await;
    }
}

#[tokio::test]
async fn messages_right_after_the_handshake_are_processed() {
    let (agent, pool) = (RawAgent::listen(), AgentPool::with_config(config(JSON)));
    let mut connection = added(&agent, &pool, async |connection| {
        let mut bytes = frame(
            message::HANDSHAKE_RESPONSE,
            &encode(JSON, &accept_handshake("json")),
        );
        bytes.extend(frame(message::HEALTH_STATUS, br#"{"state":4}"#));
        bytes.extend(frame(message::PING, b"ping"));
        connection.send_bytes(&bytes).await;
    })
    .await;

    assert_eq!(
        connection.receive().await,
        Some((message::PONG, b"ping".to_vec()))
    );

    eventually("the health report is applied", async || {
        pool.agent("agent").unwrap().stats().healthy_connections == 0
    })
    .await;
}

/// Returns the source of an error.
fn source_of<T: std::error::Error + 'static>(error: &dyn std::error::Error) -> Option<&T> {
    error.source()?.downcast_ref()
}

#[tokio::test]
async fn errors_have_their_cause_as_source() {
    let dir = tempfile::tempdir().unwrap();
    let missing = dir.path().join("missing.sock");
    let pool = AgentPool::new();
    let config = AgentConfig::new("agent", missing.to_str().unwrap()).require_connection();
    let error = pool.add(config).await.unwrap_err();
    let source = source_of::<ConnectError>(&error);
    assert!(
        matches!(source, Some(ConnectError::NoSuchSocket)),
        "{error}"
    );
    assert!(error.is_retryable() && error.kind() == "connection_failed");

    let socket = dir.path().join("no-folder").join("agent.sock");
    let server = AgentServer::builder(RuleAgent::default()).listen(socket.to_str().unwrap());
    let error = server.bind().await.unwrap_err();
    let source = source_of::<std::io::Error>(&error).map(std::io::Error::kind);
    assert_eq!(source, Some(std::io::ErrorKind::NotFound), "{error}");
    assert!(error.is_retryable() && error.kind() == "listen");
}

#[tokio::test]
async fn connecting_waits_for_room_in_a_full_backlog() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("full.sock");
    let socket = tokio::net::UnixSocket::new_stream().unwrap();
    socket.bind(&path).unwrap();
    let listener = socket.listen(1).unwrap();
    let mut waiting = Vec::new();
    while let Ok(stream) = tokio::net::UnixStream::connect(&path).await {
        waiting.push(stream);
    }

    let pool = AgentPool::with_config(config(JSON).connect_timeout(Duration::from_millis(200)));
    let cause = connect_error(&pool, &path).await;
    assert!(cause.contains("200ms"), "{cause}");

    drop(waiting);
    let accepting = tokio::spawn(async move {
        // Those that were waiting have hung up. Each that is accepted makes room for another.
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            if stream.peer_cred().is_ok() && stream.readable().await.is_ok() {
                let mut first = [0];
                if stream.try_read(&mut first).is_ok_and(|count| count > 0) {
                    return;
                }
            }
        }
    });
    let _ = connect_error(&pool, &path).await;
    accepting.await.unwrap();
}
