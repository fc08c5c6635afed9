//! Agents that connect to the proxy.

use super::events::request;
use super::{TEST_TIMEOUT, assert_fails, eventually, one_connection};
use std::sync::Arc;
use tempfile::TempDir;
use tollgate::{AgentServer, handler_fn};
use zentinel_agent_protocol::AgentProtocolError as Error;
use zentinel_agent_protocol::v2::{
    AgentCapabilities, AgentPool, CancelReason, ReverseConnectionClient, ReverseConnectionConfig,
    ReverseConnectionListener, V2Transport,
};

async fn listen(config: ReverseConnectionConfig) -> (TempDir, ReverseConnectionListener) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("proxy.sock");
    std::fs::write(&path, "not a socket").unwrap();
    let listener = ReverseConnectionListener::bind_uds(&path, config).await;
    (dir, listener.unwrap())
}

fn capabilities(id: &str) -> AgentCapabilities {
    AgentCapabilities::new(id, "A dialing agent", "1.0.0")
}

fn dial(id: &str, path: &str) {
    let handler = handler_fn(capabilities(id), |_| async {
        tollgate::AgentResponse::default_allow()
    });
    let server = AgentServer::builder(handler).dial(path);
    tokio::spawn(server.serve());
}

#[tokio::test]
async fn registered_agent_is_called_through_the_pool() {
    let (_dir, listener) = listen(ReverseConnectionConfig::default()).await;
    let pool = AgentPool::with_config(one_connection());
    dial("dialing", listener.socket_path());
    let id = tokio::time::timeout(TEST_TIMEOUT, listener.accept_one(&pool)).await;
    assert_eq!(id.unwrap().unwrap(), "dialing");
    pool.send_request_headers("dialing", "c-1", &request("c-1"))
        .await
        .unwrap();

    let client = ReverseConnectionClient::of(&pool, "dialing").unwrap();
    assert!(client.is_connected().await && client.can_accept_requests().await);
    let caps = client.capabilities().await.unwrap();
    let client = V2Transport::Reverse(client);
    assert_eq!(client.agent_id(), "dialing");
    client
        .send_request_headers("c-2", &request("c-2"))
        .await
        .unwrap();
    assert_eq!(client.cancel_all(CancelReason::Manual).await.unwrap(), 0);

    let again = || ReverseConnectionClient::of(&pool, "dialing").unwrap();
    pool.add_reverse_connection("dialing", again(), caps)
        .await
        .unwrap();
    let another = capabilities("another");
    assert_fails!(
        pool.add_reverse_connection("dialing", again(), another)
            .await,
        Error::WrongConnectionType(_)
    );
    client.close().await.unwrap();
    assert_fails!(
        ReverseConnectionClient::of(&pool, "dialing"),
        Error::InvalidMessage(_)
    );
}

#[tokio::test]
async fn loop_accepts_agents_until_the_listener_is_dropped() {
    let (_dir, listener) = listen(ReverseConnectionConfig::default()).await;
    let pool = Arc::new(AgentPool::with_config(one_connection()));
    let path = listener.socket_path().to_owned();
    let accepting = tokio::spawn(Arc::new(listener).accept_loop(Arc::clone(&pool)));
    ["a", "b"].iter().for_each(|id| dial(id, &path));
    eventually("both agents are healthy", async || {
        pool.is_agent_healthy("a") && pool.is_agent_healthy("b")
    })
    .await;
    accepting.abort();
    let _ = accepting.await;
    assert!(!std::path::Path::new(&path).exists());
}

#[tokio::test]
async fn tokens_that_are_required_must_exist() {
    let dir = tempfile::tempdir().unwrap();
    let config = ReverseConnectionConfig {
        require_auth: true,
        ..ReverseConnectionConfig::default()
    };
    let bound = ReverseConnectionListener::bind_uds(dir.path().join("s"), config).await;
    assert_fails!(bound, Error::ConnectionFailed(_));
}
