//! The memory that HTTP/2 connections make a server hold is limited in sum.

use super::memory_limits::WaitingAgent;
use crate::common::http2::{
    self, ClientConnection, OpenStream, PROCESS_EVENT, RawStream, SendHalf, framed,
};
use crate::common::{HonestCalls, eventually, pool_with, proto};
use std::path::{Path, PathBuf};
use tollgate::{
    AgentCapabilities, AgentHandler, AgentResponse, AgentServer, AgentServerBuilder, EventType,
    RequestHeadersView,
};

const MIB: usize = 1024 * 1024;

const SERVER_REFLECTION_INFO: &str = "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo";

/// An agent that blocks every request, with the URI as the body.
struct RepeatingAgent;

impl AgentHandler for RepeatingAgent {
    fn capabilities(&self) -> AgentCapabilities {
        AgentCapabilities::new("repeating", "Repeating", "1.0.0")
            .with_event(EventType::RequestHeaders)
    }

    async fn on_request_headers(&self, event: RequestHeadersView<'_>) -> AgentResponse {
        AgentResponse::block(403, Some(event.uri.to_owned()))
    }
}

/// Opens hostile connections until some are ended for their memory, and makes good calls beside
/// them. One of them alone is charged more than `charged` bytes.
async fn expect_limited<H: AgentHandler, C>(
    server: AgentServerBuilder<H>,
    limit: usize,
    charged: usize,
    open: impl AsyncFn(&Path) -> C,
) {
    let server = server.listen("grpc://127.0.0.1:0").max_memory(limit);
    let control = server.control();
    let server = server.bind().await.unwrap();
    let endpoint = PathBuf::from(&server.endpoints()[0]);
    tokio::spawn(server.serve());
    let honest_pool = pool_with(http2::grpc_config(), &endpoint).await;
    let honest = HonestCalls::to(&honest_pool);

    let mut hostile = vec![open(&endpoint).await];
    eventually("the first connection is charged", async || {
        control.memory_used() > charged
    })
    .await;
    assert_eq!(control.ended_for_memory(), 0);
    while control.ended_for_memory() == 0 {
        assert!(hostile.len() < 200, "{} bytes", control.memory_used());
        hostile.push(open(&endpoint).await);
    }
    eventually("the limit holds", async || control.memory_used() <= limit).await;
    honest.end().await;
    drop(hostile);
    eventually("memory is returned", async || control.memory_used() < MIB).await;
    let faults = crate::common::faults(&honest_pool).await;
    assert_eq!(faults.connections_lost, 0);
}

/// Sends events on four streams of a connection until the agent handles as many as it does at once,
/// and then what HTTP/2 keeps for whoever reads on.
async fn fill_windows(endpoint: &Path) -> (ClientConnection, Vec<RawStream>) {
    let mut connection = ClientConnection::to(endpoint).await;
    let mut streams = Vec::new();
    for n in 0..4 {
        let mut stream = connection.shake_hands().await;
        stream.send_message(&proto::request(&format!("waits-{n}"), "/wait"));
        for _ in 0..10 {
            let value = "v".repeat(60_000);
            stream.send_message(&proto::request("unread", &value));
        }
        streams.push(stream);
    }
    (connection, streams)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn unread_windows_of_many_http2_connections_fit_the_limit() {
    let server = AgentServer::builder(WaitingAgent).max_concurrent_per_connection(1);
    expect_limited(server, 8 * MIB, MIB, fill_windows).await;
}

/// Makes calls whose responses are longer than the `window` bytes that the agent may send of each.
async fn leave_unread(
    endpoint: &Path,
    window: u32,
    path: &str,
    message: impl Fn(usize) -> Vec<u8>,
) -> (ClientConnection, Vec<OpenStream>) {
    let mut connection = ClientConnection::with_window(endpoint, window).await;
    let mut calls = Vec::new();
    for n in 0..40 {
        let Some(mut call) = connection.try_open(path).await else {
            break;
        };
        let message = framed(&message(n));
        if call.sending.send_data(message.into(), true).is_err() {
            break;
        }
        calls.push(call);
    }
    (connection, calls)
}

/// Makes calls with answers of 50,000 bytes.
async fn leave_answers_unread(endpoint: &Path) -> (ClientConnection, Vec<OpenStream>) {
    let uri = format!("/{}", "u".repeat(50_000));
    let event = |n| proto::request(&format!("unread-{n}"), &uri);
    leave_unread(endpoint, 4096, PROCESS_EVENT, event).await
}

/// Asks for the description of the service, of which the agent may send nothing.
async fn leave_descriptions_unread(endpoint: &Path) -> (ClientConnection, Vec<OpenStream>) {
    // The field `file_containing_symbol`.
    let symbol = b"zentinel.agent.v2.AgentServiceV2";
    let request = [&[4 << 3 | 2, symbol.len() as u8], &symbol[..]].concat();
    leave_unread(endpoint, 0, SERVER_REFLECTION_INFO, |_| request.clone()).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn unsent_answers_of_many_http2_connections_fit_the_limit() {
    let server = AgentServer::builder(RepeatingAgent);
    expect_limited(server, 16 * MIB, 3 * MIB / 2, leave_answers_unread).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn unsent_descriptions_of_many_http2_connections_fit_the_limit() {
    let server = AgentServer::builder(RepeatingAgent);
    // More than what HTTP/2 takes, and more than what the service holds, each alone.
    expect_limited(server, 16 * MIB, 4 * MIB, leave_descriptions_unread).await;
}
