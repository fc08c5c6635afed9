//! Size limits of gRPC messages, and the handling of larger ones.
use crate::common::http2::grpc_config;
use crate::common::{
    ServedAgent, call, eventually, faults, pool_with, request, result_of, serve_at,
};
use std::path::Path;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tollgate::{
    AddError, AgentCapabilities, AgentConfig, AgentHandler, AgentPool, AgentPoolConfig,
    AgentResponse, AgentServer, CallError as Error, Decision, RequestHeadersView,
};

const MIB: usize = 1024 * 1024;

async fn agent_taking(bytes: usize) -> ServedAgent {
    serve_at("grpc://127.0.0.1:0", |server| {
        server.max_message_size(bytes)
    })
    .await
}

fn config(bytes: usize) -> AgentPoolConfig {
    grpc_config().max_grpc_message_size(bytes)
}

async fn send(pool: &AgentPool, uri_len: usize) -> Result<AgentResponse, Error> {
    let event = request("large", &"/".repeat(uri_len));
    pool.agent("agent").unwrap().send("large", &event).await
}

/// Asserts that an event is rejected without being sent, and that the connection still works.
async fn expect_rejected(pool: &AgentPool, agent: &ServedAgent, uri_len: usize, limit: usize) {
    let seen = agent.seen.lock().unwrap().len();
    let rejected = send(pool, uri_len).await;

    let Err(Error::MessageTooLarge { size, max, .. }) = rejected else {
        panic!("{rejected:?}");
    };
    assert_eq!(max, limit);
    assert!(size > uri_len && size < uri_len + 1000);

    result_of(call(pool, "c-1")).await.unwrap();
    assert_eq!(agent.seen.lock().unwrap().len(), seen + 1);
    assert_eq!(faults(pool).await.connections_lost, 0);
    let calls = pool.agent("agent").unwrap().stats().calls;
    assert_eq!(calls.too_large, 1);
}

#[tokio::test]
async fn default_limit_is_ten_mebibytes() {
    let agent = crate::common::serve_grpc().await;
    let pool = pool_with(grpc_config(), &agent.path).await;
    send(&pool, 10 * MIB - 1000).await.unwrap();
    expect_rejected(&pool, &agent, 10 * MIB, 10 * MIB).await;
}

#[tokio::test]
async fn limit_can_be_raised_on_both_sides() {
    let agent = agent_taking(16 * MIB).await;
    let pool = pool_with(config(14 * MIB), &agent.path).await;
    send(&pool, 13 * MIB).await.unwrap();
    expect_rejected(&pool, &agent, 14 * MIB, 14 * MIB).await;
}

#[tokio::test]
async fn limit_cannot_exceed_the_largest_frame() {
    let agent = agent_taking(usize::MAX).await;
    let unlimited = AgentPool::with_config(config(usize::MAX));
    let waf = AgentConfig::new("agent", agent.path.to_str().unwrap());
    assert_fails!(unlimited.add(waf).await, AddError::InvalidConfig { .. });

    let pool = pool_with(config(16 * MIB), &agent.path).await;
    send(&pool, 16 * MIB - 1000).await.unwrap();
    expect_rejected(&pool, &agent, 16 * MIB, 16 * MIB).await;
}

#[tokio::test]
async fn limit_of_a_pool_can_be_lowered() {
    let agent = crate::common::serve_grpc().await;
    let pool = pool_with(config(4096), &agent.path).await;
    send(&pool, 3000).await.unwrap();
    expect_rejected(&pool, &agent, 4096, 4096).await;
}

/// Blocks with a body of as many bytes as the URI says.
struct Verbose;

impl AgentHandler for Verbose {
    fn capabilities(&self) -> AgentCapabilities {
        AgentCapabilities::new("verbose", "Verbose", "1")
    }

    async fn on_request_headers(&self, event: RequestHeadersView<'_>) -> AgentResponse {
        let len = event.uri.trim_start_matches('/').parse().unwrap();
        AgentResponse::block(403, Some("x".repeat(len)))
    }
}

/// Serves a [`Verbose`] agent. Returns its endpoint.
async fn verbose(max_message: usize) -> String {
    let server = AgentServer::builder(Verbose).listen("grpc://127.0.0.1:0");
    let server = server.max_message_size(max_message);
    let bound = server.bind().await.unwrap();
    let endpoint = bound.endpoints().remove(0);
    tokio::spawn(bound.serve());
    endpoint
}

async fn answer_of(pool: &AgentPool, len: usize) -> Result<AgentResponse, Error> {
    let event = request("c-1", &format!("/{len}"));
    pool.agent("agent").unwrap().send("c-1", &event).await
}

#[tokio::test]
async fn agent_blocks_if_its_answer_is_too_large() {
    for use_extension in [true, false] {
        let endpoint = verbose(4096).await;
        let config = grpc_config().use_extension(use_extension);
        let pool = pool_with(config, Path::new(&endpoint)).await;

        for (len, status) in [(4000, 403), (4096, 500), (100_000, 500), (10, 403)] {
            let answer = answer_of(&pool, len).await.unwrap();
            let Decision::Block { status: given, .. } = answer.decision else {
                panic!("{answer:?}");
            };
            assert_eq!(given, status, "{len}");
            let is_too_large = answer.audit.reason_codes == ["agent_error", "response_too_large"];
            assert_eq!(is_too_large, status == 500);
        }

        assert_eq!(faults(&pool).await.connections_lost, 0);
    }
}

#[tokio::test]
async fn answer_above_the_pools_limit_ends_the_connection() {
    let endpoint = verbose(10 * MIB).await;
    let pool = pool_with(config(4096), Path::new(&endpoint)).await;
    assert_fails!(answer_of(&pool, 5000).await, Error::ConnectionClosed { .. });
    eventually("the pool is connected again", async || {
        answer_of(&pool, 10).await.is_ok()
    })
    .await;

    let faults = faults(&pool).await;
    assert_eq!((faults.invalid_frames, faults.connections_lost), (1, 1));
}

/// Connection preface of an HTTP/2 client, with empty settings.
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";

/// A typical body chunk then takes one DATA frame instead of four.
#[tokio::test]
async fn agent_accepts_data_frames_of_64_kib() {
    let agent = agent_taking(MIB).await;
    let address = agent.path.to_str().unwrap().trim_start_matches("grpc://");
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(PREFACE).await.unwrap();
    assert_eq!(max_frame_size(&mut stream).await, Some(64 * 1024));
}

/// A replaced body of an agent then takes one DATA frame instead of four.
#[tokio::test]
async fn pool_accepts_data_frames_of_64_kib() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let pool = AgentPool::new();
    let adding = pool.add(AgentConfig::new("waf", format!("grpc://{address}")));

    let proxy = async {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut preface = [0; 24];
        stream.read_exact(&mut preface).await.unwrap();
        max_frame_size(&mut stream).await
    };

    tokio::select! {
        added = adding => panic!("connected without an answer: {added:?}"),
        announced = proxy => assert_eq!(announced, Some(64 * 1024)),
    }
}

/// Reads the first SETTINGS frame of an HTTP/2 connection. Returns its maximum frame size.
async fn max_frame_size(stream: &mut TcpStream) -> Option<u32> {
    const SETTINGS: u8 = 4;
    const MAX_FRAME_SIZE: [u8; 2] = [0, 5];
    let mut head = [0; 9];
    stream.read_exact(&mut head).await.unwrap();
    let [l0, l1, l2, frame_type, ..] = head;
    assert_eq!(frame_type, SETTINGS);
    let mut settings = vec![0; u32::from_be_bytes([0, l0, l1, l2]) as usize];
    stream.read_exact(&mut settings).await.unwrap();
    let (settings, _) = settings.as_chunks::<6>();
    settings.iter().find_map(|setting| {
        let (name, value) = setting.split_first_chunk()?;
        (*name == MAX_FRAME_SIZE).then(|| u32::from_be_bytes(value.try_into().unwrap()))
    })
}
