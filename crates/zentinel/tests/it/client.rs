//! The client of one agent on a Unix socket.

use super::events::{complete, request};
use super::recorder::Recorder;
use super::{TEST_TIMEOUT, assert_fails};
use zentinel_agent_protocol::v2::uds::AgentClientV2Uds;
use zentinel_agent_protocol::{
    AgentProtocolError as Error, BinaryRequestBodyChunkEvent, Bytes, Decision,
};

async fn client_of(path: &str) -> AgentClientV2Uds {
    AgentClientV2Uds::new("agent", path, TEST_TIMEOUT)
        .await
        .unwrap()
}

#[tokio::test]
async fn client_sends_events_while_it_is_connected() {
    let agent = Recorder::serve().await;
    let client = client_of(agent.path.to_str().unwrap()).await;
    assert_eq!(client.agent_id(), "agent");
    assert_fails!(
        client.send_request_headers("c-1", &request("c-1")).await,
        Error::ConnectionClosed
    );
    assert!(client.capabilities().await.is_none());

    client.connect().await.unwrap();
    assert_eq!(client.capabilities().await.unwrap().name, "Recorder");
    let answer = client.send_request_headers("c-1", &request("c-1")).await;
    assert_eq!(answer.unwrap().decision, Decision::Allow);
    let chunk = BinaryRequestBodyChunkEvent::new("c-1", Bytes::from_static(b"x"), 0, true);
    client.send_request_body_chunk_binary(&chunk).await.unwrap();
    client
        .send_request_complete("c-1", &complete("c-1"))
        .await
        .unwrap();
    assert_eq!(
        agent.take(),
        ["request headers c-1", "request body c-1", "complete c-1"]
    );

    client.close().await.unwrap();
    client.close().await.unwrap();
    assert_fails!(
        client.send_request_headers("c-2", &request("c-2")).await,
        Error::ConnectionClosed
    );
    client.connect().await.unwrap();
    client
        .send_request_headers("c-3", &request("c-3"))
        .await
        .unwrap();
}

#[tokio::test]
async fn client_does_not_connect_to_nothing() {
    let client = client_of("/nonexistent/agent.sock").await;
    assert_fails!(client.connect().await, Error::ConnectionFailed(_));
    assert_fails!(
        client.send_request_headers("c-1", &request("c-1")).await,
        Error::ConnectionClosed
    );
}
