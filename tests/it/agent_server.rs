//! The agent's server: order of events, waiting handlers, slow proxies, socket file and stopping.

use crate::common::{
    BOTH, RawConnection, RuleAgent, ServedAgent, TEST_TIMEOUT, encode, eventually, frame, message,
    metadata, offer_handshake, serve, serve_with,
};
use serde_json::{Value, json};
use std::fs;
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::path::Path;
use tokio::time::timeout;
use tollgate::error::BindError;
use tollgate::{AgentServer, AgentServerBuilder, CancelReason, Encoding};

fn head(id: &str, uri: &str) -> Value {
    json!({"metadata": metadata(id), "method": "GET", "uri": uri, "headers": {}})
}

fn chunk(id: &str, index: u32) -> Value {
    json!({
        "correlation_id": id, "data": "YWJj", "is_last": false, "total_size": null,
        "chunk_index": index, "bytes_received": 3,
    })
}

/// Returns the id that the next message answers.
async fn answered(connection: &mut RawConnection) -> String {
    let (message, answer) = connection.message().await;
    assert_eq!(message, message::AGENT_RESPONSE, "{answer}");
    answer["audit"]["custom"]["correlation_id"]
        .as_str()
        .expect("an id")
        .to_owned()
}

async fn cancel(connection: &mut RawConnection, id: &str) {
    let cancel = json!({"correlation_id": id, "reason": 0, "timestamp_ms": 1});
    connection
        .send(message::CANCEL, cancel.to_string().as_bytes())
        .await;
}

async fn expect_seen(agent: &ServedAgent, count: usize) {
    eventually("the events are seen", async || {
        agent.seen.lock().expect("the handler does not panic").len() == count
    })
    .await;
}

#[tokio::test]
async fn events_of_an_exchange_stay_in_order() {
    for encoding in BOTH {
        let agent = serve().await;
        let mut connection = RawConnection::connect_in(&agent.path, encoding).await;

        connection
            .send_value(message::REQUEST_HEADERS, &head("first", "/wait"))
            .await;
        for index in 0..3 {
            connection
                .send_value(message::REQUEST_BODY_CHUNK, &chunk("first", index))
                .await;
        }
        connection
            .send_value(message::REQUEST_HEADERS, &head("second", "/"))
            .await;

        assert_eq!(answered(&mut connection).await, "second");
        assert_eq!(
            agent.seen.lock().unwrap().len(),
            2,
            "a chunk overtook its headers"
        );

        agent.release.notify_one();
        for _ in 0..4 {
            assert_eq!(answered(&mut connection).await, "first");
        }

        let seen = agent.seen.lock().unwrap().clone();
        let indexes: Vec<_> = seen[2..]
            .iter()
            .map(|chunk| chunk["chunk_index"].clone())
            .collect();
        assert_eq!(indexes, [0, 1, 2]);
    }
}

#[tokio::test]
async fn waiting_handlers_of_an_exchange_keep_the_order() {
    for encoding in BOTH {
        let agent = serve().await;
        let mut connection = RawConnection::connect_in(&agent.path, encoding).await;

        for index in 0..3 {
            let mut waiting = chunk("c-1", index);
            waiting["data"] = json!("d2FpdA==");
            connection
                .send_value(message::REQUEST_BODY_CHUNK, &waiting)
                .await;
        }
        connection
            .send_value(message::REQUEST_BODY_CHUNK, &chunk("c-1", 3))
            .await;

        for seen in 1..=3 {
            assert_eq!(connection.sync().await, [0; 0]);
            expect_seen(&agent, seen).await;
            agent.release.notify_one();
            assert_eq!(answered(&mut connection).await, "c-1");
        }

        assert_eq!(answered(&mut connection).await, "c-1");
        assert_eq!(agent.last_seen()["chunk_index"], 3);
    }
}

#[tokio::test]
async fn waiting_handlers_do_not_block_other_exchanges() {
    for encoding in BOTH {
        let agent = serve().await;
        let mut connection = RawConnection::connect_in(&agent.path, encoding).await;

        for n in 0..100 {
            connection
                .send_value(
                    message::REQUEST_HEADERS,
                    &head(&format!("waiting-{n}"), "/wait"),
                )
                .await;
        }

        for n in 0..100 {
            let id = format!("quick-{n}");
            connection
                .send_value(message::REQUEST_HEADERS, &head(&id, "/"))
                .await;
            assert_eq!(answered(&mut connection).await, id);
        }

        agent.release.notify_waiters();
        for _ in 0..100 {
            assert!(answered(&mut connection).await.starts_with("waiting-"));
        }
    }
}

#[tokio::test]
async fn cancel_drops_the_handler_and_the_events_behind_it() {
    for encoding in BOTH {
        let agent = serve().await;
        let mut connection = RawConnection::connect_in(&agent.path, encoding).await;

        connection
            .send_value(message::REQUEST_HEADERS, &head("c-1", "/wait"))
            .await;
        connection
            .send_value(message::REQUEST_BODY_CHUNK, &chunk("c-1", 0))
            .await;
        connection
            .send_value(message::REQUEST_BODY_CHUNK, &chunk("c-1", 1))
            .await;
        connection
            .send_value(message::REQUEST_HEADERS, &head("c-2", "/wait"))
            .await;

        cancel(&mut connection, "c-1").await;
        cancel(&mut connection, "unknown").await;
        // Each cancelled event is answered, so the proxy knows that no other answer follows.
        assert_eq!(connection.sync().await, [message::AGENT_RESPONSE; 3]);
        let expected = ["c-1", "unknown"].map(|id| (id.to_owned(), CancelReason::ClientDisconnect));
        assert_eq!(*agent.cancelled.lock().unwrap(), expected);

        // A new event of the exchange does not wait for the cancelled ones.
        connection
            .send_value(message::REQUEST_BODY_CHUNK, &chunk("c-1", 2))
            .await;
        assert_eq!(answered(&mut connection).await, "c-1");
        assert_eq!(agent.last_seen()["chunk_index"], 2);

        agent.release.notify_waiters();
        assert_eq!(answered(&mut connection).await, "c-2");
        assert_eq!(
            connection.sync().await,
            [0; 0],
            "a cancelled event was answered"
        );
        assert_eq!(agent.seen.lock().unwrap().len(), 3);
    }
}

#[tokio::test]
async fn handlers_are_dropped_when_the_proxy_disconnects() {
    let agent = serve().await;
    let mut connection = RawConnection::connect_in(&agent.path, Encoding::Json).await;
    connection
        .send_value(message::REQUEST_HEADERS, &head("c-1", "/wait"))
        .await;
    expect_seen(&agent, 1).await;

    drop(connection);
    eventually("the session ends", async || {
        agent.control.connections() == 0
    })
    .await;
    agent.stop().await;
}

#[tokio::test]
async fn reads_from_a_proxy_that_does_not_read_are_bounded() {
    for encoding in BOTH {
        let agent = serve().await;
        let mut connection = RawConnection::connect_in(&agent.path, encoding).await;

        let event = frame(
            message::REQUEST_HEADERS,
            &encode(encoding, &head("c-1", "/audit")),
        );

        let stopped = connection.fill(&event, 8 * 1024 * 1024).await;
        assert!(
            stopped,
            "8 MiB of events were taken without an answer being read"
        );

        let seen = agent.seen.lock().unwrap().len();
        for _ in 0..seen {
            assert_eq!(answered(&mut connection).await, "c-1");
        }
    }
}

#[tokio::test]
async fn slow_proxy_does_not_block_others() {
    let agent = serve().await;
    let mut slow = RawConnection::connect_in(&agent.path, Encoding::Json).await;
    let event = frame(
        message::REQUEST_HEADERS,
        &encode(Encoding::Json, &head("c-1", "/")),
    );
    assert!(slow.fill(&event, 8 * 1024 * 1024).await);

    let mut other = RawConnection::connect_in(&agent.path, Encoding::Json).await;
    other
        .send_value(message::REQUEST_HEADERS, &head("c-2", "/"))
        .await;
    assert_eq!(answered(&mut other).await, "c-2");
}

#[tokio::test]
async fn number_of_events_in_progress_is_limited() {
    for encoding in BOTH {
        let agent = serve_with(|server| server.max_concurrent_per_connection(2)).await;
        let mut connection = RawConnection::connect_in(&agent.path, encoding).await;

        for n in 0..5 {
            connection
                .send_value(message::REQUEST_HEADERS, &head(&n.to_string(), "/wait"))
                .await;
        }

        for seen in 2..=5 {
            expect_seen(&agent, seen).await;
            // Once another connection is served, the agent has read all that it will read.
            let mut other = RawConnection::connect_in(&agent.path, encoding).await;
            assert_eq!(other.sync().await, [0; 0]);
            assert_eq!(agent.seen.lock().unwrap().len(), seen);
            agent.release.notify_one();
            answered(&mut connection).await;
        }

        agent.release.notify_one();
        answered(&mut connection).await;
    }
}

#[tokio::test]
async fn connections_beyond_the_limit_wait() {
    let agent = serve_with(|server| server.max_connections(1)).await;
    let mut first = RawConnection::connect_in(&agent.path, Encoding::Json).await;
    let mut second = RawConnection::connect(&agent.path).await;

    second
        .send_value(message::HANDSHAKE_REQUEST, &offer_handshake("json"))
        .await;

    for n in 0..10 {
        first
            .send_value(message::REQUEST_HEADERS, &head(&n.to_string(), "/"))
            .await;
        assert_eq!(answered(&mut first).await, n.to_string());
    }

    second.expect_silence();
    drop(first);
    assert_eq!(second.message().await.1["success"], true);
}

#[tokio::test]
async fn graceful_stop_answers_events_in_flight() {
    for encoding in BOTH {
        let agent = serve().await;
        let (path, release) = (agent.path.clone(), agent.release.clone());
        let mut connection = RawConnection::connect_in(&path, encoding).await;
        let mut idle = RawConnection::connect_in(&path, encoding).await;

        connection
            .send_value(message::REQUEST_HEADERS, &head("c-1", "/wait"))
            .await;
        connection
            .send_value(message::REQUEST_BODY_CHUNK, &chunk("c-1", 0))
            .await;
        assert_eq!(connection.sync().await, [0; 0]);

        let stopped = tokio::spawn(agent.stop());
        idle.expect_end().await;
        eventually("the socket file is removed", async || !path.exists()).await;
        assert!(tokio::net::UnixStream::connect(&path).await.is_err());

        release.notify_one();
        for _ in 0..2 {
            assert_eq!(answered(&mut connection).await, "c-1");
        }
        connection.expect_end().await;
        timeout(TEST_TIMEOUT, stopped).await.unwrap().unwrap();
    }
}

#[tokio::test]
async fn stop_waits_no_longer_than_the_drain_timeout() {
    let limit = std::time::Duration::from_millis(100);
    let agent = serve_with(|server| server.drain_timeout(limit)).await;

    let mut connection = RawConnection::connect_in(&agent.path, Encoding::Json).await;
    connection
        .send_value(message::REQUEST_HEADERS, &head("c-1", "/wait"))
        .await;
    expect_seen(&agent, 1).await;

    timeout(TEST_TIMEOUT, agent.stop()).await.unwrap();
    connection.expect_end().await;
}

#[tokio::test]
async fn unfinished_handshake_does_not_delay_the_stop() {
    let agent = serve().await;
    let mut working = RawConnection::connect_in(&agent.path, Encoding::Json).await;
    let _silent = RawConnection::connect(&agent.path).await;
    working
        .send_value(message::REQUEST_HEADERS, &head("c-1", "/"))
        .await;
    answered(&mut working).await;

    let stopped = timeout(std::time::Duration::from_secs(1), agent.stop()).await;
    assert!(stopped.is_ok(), "the stop waits for a handshake");
}

fn server(path: &Path) -> AgentServerBuilder<RuleAgent> {
    AgentServer::builder(RuleAgent::default()).listen(path.display().to_string())
}

async fn bind_error(path: &Path) -> String {
    let rejected = server(path).bind().await.map(drop);
    let error = rejected.expect_err("the path is taken");
    assert!(matches!(error, BindError::Listen { .. }), "{error:?}");
    error.to_string()
}

#[tokio::test]
async fn stale_socket_file_is_replaced() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("agent.sock");

    drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
    assert!(path.exists());

    let bound = server(&path).bind().await.unwrap();
    let serving = tokio::spawn(bound.serve());
    let mut connection = RawConnection::connect_in(&path, Encoding::Json).await;

    connection
        .send_value(message::REQUEST_HEADERS, &head("c-1", "/"))
        .await;
    assert_eq!(answered(&mut connection).await, "c-1");

    serving.abort();
    assert!(serving.await.unwrap_err().is_cancelled());
    assert!(!path.exists(), "the socket file is left behind");
}

#[tokio::test]
async fn socket_of_a_running_agent_is_rejected() {
    let agent = serve().await;
    let error = bind_error(&agent.path).await;
    assert!(error.contains(agent.path.to_str().unwrap()), "{error}");
    assert!(error.contains("another process listens there"), "{error}");

    let mut connection = RawConnection::connect_in(&agent.path, Encoding::Json).await;
    connection
        .send_value(message::REQUEST_HEADERS, &head("c-1", "/"))
        .await;
    assert_eq!(answered(&mut connection).await, "c-1");
}

#[tokio::test]
async fn path_that_is_no_socket_is_rejected_and_kept() {
    let dir = tempfile::tempdir().unwrap();
    let [file, folder, link] = ["file", "folder", "link"].map(|name| dir.path().join(name));

    fs::write(&file, "text").unwrap();
    fs::create_dir(&folder).unwrap();
    std::os::unix::fs::symlink(&file, &link).unwrap();

    for path in [&file, &folder, &link] {
        let error = bind_error(path).await;
        assert!(
            error.contains(path.to_str().unwrap()) && error.contains("not a socket"),
            "{error}"
        );
    }

    assert_eq!(fs::read_to_string(&file).unwrap(), "text");
    assert!(folder.is_dir() && link.is_symlink());
    let missing = bind_error(&dir.path().join("missing/agent.sock")).await;
    assert!(missing.contains("missing/agent.sock"), "{missing}");
}

#[tokio::test]
async fn file_that_replaced_the_socket_is_kept() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("agent.sock");

    let bound = server(&path).bind().await.unwrap();
    fs::remove_file(&path).unwrap();
    fs::write(&path, "text").unwrap();

    timeout(TEST_TIMEOUT, bound.serve_until(async {}))
        .await
        .unwrap()
        .unwrap();
    assert_eq!(fs::read_to_string(&path).unwrap(), "text");
}

#[tokio::test]
async fn socket_file_has_the_configured_mode() {
    let dir = tempfile::tempdir().unwrap();
    let mode_of = |path: &Path| {
        let file = fs::symlink_metadata(path).unwrap();
        assert!(file.file_type().is_socket());
        file.permissions().mode() & 0o7777
    };

    let path = dir.path().join("agent.sock");
    let bound = server(&path).bind().await.unwrap();
    assert_eq!(mode_of(&path), 0o600);
    drop(bound);
    assert!(!path.exists());

    for mode in [0o666, 0o660, 0o777, 0o400] {
        let bound = server(&path).socket_mode(mode).bind().await.unwrap();
        assert_eq!(mode_of(&path), mode);
        drop(bound);
    }
}

/// Locks a folder as another process would.
fn locked(folder: &Path) -> fs::File {
    let folder = fs::File::open(folder).unwrap();
    folder.lock().unwrap();
    folder
}

#[tokio::test]
async fn folder_that_stays_locked_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let _lock = locked(dir.path());
    let path = dir.path().join("agent.sock");
    let error = timeout(TEST_TIMEOUT, bind_error(&path)).await;
    let error = error.expect("the lock is not waited for");
    let reason = format!("holds a lock on the folder {}", dir.path().display());
    assert!(error.contains(&reason), "{error}");
}

#[tokio::test]
async fn folder_that_is_locked_for_a_moment_is_waited_for() {
    let dir = tempfile::tempdir().unwrap();
    let lock = locked(dir.path());
    let path = dir.path().join("agent.sock");
    let unlocked = async { drop(lock) };
    // The server finds the lock first.
    let (bound, ()) = tokio::join!(biased; server(&path).bind(), unlocked);
    bound.unwrap();
}

#[tokio::test]
async fn server_stops_while_the_folder_is_locked() {
    let dir = tempfile::tempdir().unwrap();
    let _lock = locked(dir.path());
    let served = server(&dir.path().join("agent.sock")).serve_until(std::future::ready(()));
    served.await.unwrap();
}
