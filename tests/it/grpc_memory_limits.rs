//! The memory that HTTP/2 connections make a server hold is limited in sum.

use crate::common::http2::{
    self, ClientConnection, OpenStream, PROCESS_EVENT, RawStream, SendHalf, framed,
};
use crate::common::{HonestCalls, MemoryGrowth, WaitingAgent, eventually, pool_with, proto};
use bytes::Bytes;
use std::iter::{once, repeat_n};
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

/// Bytes that a server is made to hold.
struct Held {
    /// Limit of the server.
    limit: usize,
    /// Least that a connection alone is charged.
    least: usize,
    /// Most that a connection is charged.
    most: usize,
}

/// Opens as many hostile connections as would be charged ten times the limit, and makes good calls
/// beside them.
async fn expect_limited<H: AgentHandler, C>(
    server: AgentServerBuilder<H>,
    held: Held,
    open: impl AsyncFn(&Path) -> C,
) {
    let Held { limit, least, most } = held;
    let server = server.listen("grpc://127.0.0.1:0").max_memory(limit);
    let control = server.control();
    let server = server.bind().await.unwrap();
    let endpoint = PathBuf::from(&server.endpoints()[0]);
    tokio::spawn(server.serve());
    let honest_pool = pool_with(http2::grpc_config(), &endpoint).await;
    let honest = HonestCalls::to(&honest_pool);
    let memory = MemoryGrowth::watch();

    let mut hostile = vec![open(&endpoint).await];
    eventually("the first connection is charged", async || {
        control.memory_used() > least
    })
    .await;
    assert_eq!(control.ended_for_memory(), 0);
    while hostile.len() * least < 10 * limit {
        let used = control.memory_used();
        assert!(used <= hostile.len() * most, "{used} bytes");
        hostile.push(open(&endpoint).await);
    }
    assert!(control.ended_for_memory() > 0);
    eventually("the limit holds", async || control.memory_used() <= limit).await;
    honest.end().await;
    memory.expect_within(8 * limit);
    drop(hostile);
    eventually("memory is returned", async || control.memory_used() < MIB).await;
    let faults = crate::common::faults(&honest_pool).await;
    assert_eq!(faults.connections_lost, 0);
}

/// Sends events on four streams of a connection until the agent handles as many as it does at once,
/// and then ten times what HTTP/2 keeps for whoever reads on: 256 KiB of each stream.
async fn fill_windows(endpoint: &Path) -> (ClientConnection, Vec<RawStream>) {
    let mut connection = ClientConnection::to(endpoint).await;
    let unread = framed(&proto::request("unread", &"v".repeat(60_000)));
    let unread = Bytes::from(unread);
    let mut streams = Vec::new();
    for n in 0..4 {
        let Some(mut stream) = connection.try_shake_hands().await else {
            break;
        };
        let waits = framed(&proto::request(&format!("waits-{n}"), "/wait"));
        once(Bytes::from(waits))
            .chain(repeat_n(unread.clone(), 10 * MIB / 4 / unread.len() + 1))
            .try_for_each(|message| stream.try_send_bytes(message));
        streams.push(stream);
    }
    (connection, streams)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn unread_windows_of_many_http2_connections_fit_the_limit() {
    let server = AgentServer::builder(WaitingAgent::default()).max_concurrent_per_connection(1);
    let held = Held {
        limit: 8 * MIB,
        least: MIB,
        most: 2 * MIB,
    };
    expect_limited(server, held, fill_windows).await;
}

/// Makes calls whose responses are longer than the `window` bytes that the agent may send of each.
async fn leave_unread(
    endpoint: &Path,
    window: u32,
    path: &str,
    said: Vec<u8>,
) -> (ClientConnection, Vec<OpenStream>) {
    let mut connection = ClientConnection::with_window(endpoint, window).await;
    // Shared, as calls on connections that have ended keep it.
    let said = Bytes::from(said);
    let mut calls = Vec::new();
    for _ in 0..40 {
        let Some(mut call) = connection.try_open(path).await else {
            break;
        };
        if call.sending.send_data(said.clone(), true).is_err() {
            break;
        }
        calls.push(call);
    }
    (connection, calls)
}

/// Makes calls with answers of 50,000 bytes.
async fn leave_answers_unread(endpoint: &Path) -> (ClientConnection, Vec<OpenStream>) {
    let uri = format!("/{}", "u".repeat(50_000));
    let event = framed(&proto::request("unread", &uri));
    leave_unread(endpoint, 4096, PROCESS_EVENT, event).await
}

/// Asks for the description of the service, ten times as often on each stream as the agent holds it
/// there. The agent may send nothing of it.
async fn leave_descriptions_unread(endpoint: &Path) -> (ClientConnection, Vec<OpenStream>) {
    // The field `file_containing_symbol`.
    let symbol = b"zentinel.agent.v2.AgentServiceV2";
    let request = [&[4 << 3 | 2, symbol.len() as u8], &symbol[..]].concat();
    let requests = framed(&request).repeat(30);
    leave_unread(endpoint, 0, SERVER_REFLECTION_INFO, requests).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn unsent_answers_of_many_http2_connections_fit_the_limit() {
    let server = AgentServer::builder(RepeatingAgent);
    let held = Held {
        limit: 16 * MIB,
        least: 3 * MIB / 2,
        most: 3 * MIB,
    };
    expect_limited(server, held, leave_answers_unread).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn unsent_descriptions_of_many_http2_connections_fit_the_limit() {
    let server = AgentServer::builder(RepeatingAgent);
    // More than what HTTP/2 takes, and more than what the service holds, each alone.
    let held = Held {
        limit: 16 * MIB,
        least: 4 * MIB,
        most: 5 * MIB,
    };
    expect_limited(server, held, leave_descriptions_unread).await;
}
