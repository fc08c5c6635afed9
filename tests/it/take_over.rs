//! A new server takes over the socket file of an old one.

use crate::common::{config, request};
use std::path::Path;
use std::time::Duration;
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tollgate::error::BindError;
use tollgate::{
    AgentCapabilities, AgentPool, AgentResponse, AgentServer, Decision, Encoding, handler_fn,
};

/// Longer than any step takes.
const TEST_TIMEOUT: Duration = Duration::from_secs(10);

/// Starts a server whose agent blocks with `status`.
async fn start(path: &Path, status: u16) -> JoinHandle<Result<(), BindError>> {
    let capabilities = AgentCapabilities::new("agent", "Agent", "1");
    let handler = handler_fn(capabilities, move |_| async move {
        AgentResponse::block(status, None)
    });
    let server = AgentServer::builder(handler)
        .listen(path.display().to_string())
        .take_over_socket_files()
        .drain_timeout(TEST_TIMEOUT);
    let server = server.bind().await.unwrap();
    tokio::spawn(server.serve())
}

fn status(answer: AgentResponse) -> u16 {
    match answer.decision {
        Decision::Block { status, .. } => status,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn exchanges_stay_with_the_old_server_and_new_ones_go_to_the_new_one() {
    for connections in [1, 3] {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("agent.sock");
        let old = start(&path, 401).await;
        let config = config(Encoding::MessagePack).connections_per_agent(connections);
        let pool = crate::common::pool_with(config, &path).await;
        let agent = pool.agent("agent").unwrap();
        let mut exchange = agent.exchange("begun").unwrap();
        let head = request("begun", "/");
        assert_eq!(status(exchange.send(&head).await.unwrap()), 401);

        let new = start(&path, 402).await;
        timeout(TEST_TIMEOUT, async {
            let mut n = 0;
            // No call fails, before or after the pool has moved.
            while status(agent.send(&format!("c-{n}"), &head).await.unwrap()) != 402 {
                pool.unpin(&format!("c-{n}"));
                n += 1;
            }
        })
        .await
        .expect("the pool moves to the new server");
        assert!(!old.is_finished(), "an exchange is not over");
        assert_eq!(status(exchange.send(&head).await.unwrap()), 401);
        drop(exchange);
        for n in 0..1000 {
            pool.unpin(&format!("c-{n}"));
        }

        timeout(TEST_TIMEOUT, old).await.unwrap().unwrap().unwrap();
        assert!(path.exists(), "the file belongs to the new server");
        assert_eq!(status(agent.send("last", &head).await.unwrap()), 402);
        new.abort();
    }
}

#[tokio::test]
async fn live_socket_is_respected_unless_a_server_may_take_it_over() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("agent.sock");
    let old = start(&path, 401).await;
    let capabilities = AgentCapabilities::new("agent", "Agent", "1");
    let handler = handler_fn(capabilities, |_| async { AgentResponse::default_allow() });
    let bound = AgentServer::builder(handler)
        .listen(path.display().to_string())
        .bind()
        .await;
    assert!(matches!(bound, Err(BindError::Listen { .. })));
    let pool = AgentPool::new();
    let endpoint = path.display().to_string();
    pool.add(tollgate::AgentConfig::new("agent", endpoint).require_connection())
        .await
        .unwrap();
    old.abort();
}
