//! Clients that open far more HTTP/2 connections than they use, or flood them.
use crate::common::http2::{ClientConnection, PROCESS_STREAM, SendHalf, grpc_config};
use crate::common::proto::{offer_handshake, request};
use crate::common::{
    HonestCalls, ServedAgent, TEST_TIMEOUT, call, config, eventually, faults, pool_with, result_of,
    serve_at, serve_grpc,
};
use h2::Reason;
use std::io::ErrorKind;
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tollgate::{Encoding, TlsServerConfig};

/// Time within which an honest proxy must be served, whatever else connects.
const SOON: Duration = Duration::from_secs(1);

const MAX_CONNECTIONS: usize = 20;

async fn serve() -> ServedAgent {
    serve_at("grpc://127.0.0.1:0", |server| {
        server
            .max_connections(MAX_CONNECTIONS)
            .handshake_timeout(Duration::from_secs(60))
    })
    .await
}

async fn connect(agent: &ServedAgent) -> TcpStream {
    let endpoint = agent.path.to_str().unwrap();
    let (_, address) = endpoint.split_once("//").unwrap();
    TcpStream::connect(address).await.unwrap()
}

async fn expect_serves_soon(agent: &ServedAgent) {
    let started = Instant::now();
    let pool = pool_with(grpc_config(), &agent.path).await;
    result_of(call(&pool, "honest")).await.unwrap();
    assert!(started.elapsed() < SOON, "{:?}", started.elapsed());
}

/// Asserts that the other side closes the connection, after sending anything or nothing.
async fn expect_end(stream: &mut TcpStream) {
    let ended = timeout(TEST_TIMEOUT, stream.read_to_end(&mut Vec::new())).await;
    let ended = ended.expect("the connection stays");
    assert!(ended.is_ok() || ended.is_err_and(|error| error.kind() == ErrorKind::ConnectionReset));
}

/// Connection preface of an HTTP/2 client, with empty settings.
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn connections_without_streams_are_evicted_for_newer_ones() {
    let agent = serve().await;
    let established = pool_with(config(Encoding::Protobuf), &agent.path).await;

    for said in [b"".as_slice(), &PREFACE[..10], PREFACE] {
        let mut idle = Vec::new();
        for _ in 0..3 * MAX_CONNECTIONS {
            let mut stream = connect(&agent).await;
            stream.write_all(said).await.unwrap();
            idle.push(stream);
        }

        expect_serves_soon(&agent).await;
        for stream in &mut idle[..MAX_CONNECTIONS] {
            expect_end(stream).await;
        }
        result_of(call(&established, "c-1")).await.unwrap();
    }
    assert_eq!(faults(&established).await.connections_lost, 0);
}

#[tokio::test]
async fn connection_can_be_evicted_after_its_last_stream() {
    let agent = serve().await;
    let mut used = ClientConnection::to(&agent.path).await;
    let streams = [used.shake_hands().await, used.shake_hands().await];

    let mut idle = Vec::new();
    for _ in 0..2 * MAX_CONNECTIONS {
        idle.push(connect(&agent).await);
    }

    expect_end(&mut idle[0]).await;
    for mut stream in streams {
        stream.send_message(&request("c-1", "/"));
        stream.expect_message().await;
        stream.end();
        assert_eq!(stream.status().await.0, "0");
    }

    assert!(used.is_open());
    eventually("the session is over", async || {
        agent.control.connections() == 0
    })
    .await;

    for _ in 0..=MAX_CONNECTIONS {
        idle.push(connect(&agent).await);
    }
    let _ = used.closed().await;
}

#[tokio::test]
async fn connections_without_streams_do_not_delay_a_stop() {
    let agent = serve().await;
    let mut silent = connect(&agent).await;
    let mut idle = connect(&agent).await;
    idle.write_all(PREFACE).await.unwrap();
    let opened = ClientConnection::to(&agent.path).await;
    expect_serves_soon(&agent).await;

    let started = Instant::now();
    agent.stop().await;
    assert!(started.elapsed() < 2 * SOON, "{:?}", started.elapsed());
    expect_end(&mut silent).await;
    expect_end(&mut idle).await;
    let _ = opened.closed().await;
}

#[tokio::test]
async fn stalled_tls_handshakes_are_evicted_for_newer_ones() {
    let identity = rcgen::generate_simple_self_signed(["127.0.0.1".to_owned()]).unwrap();
    let (certificate, key) = (identity.cert.pem(), identity.signing_key.serialize_pem());
    let tls = TlsServerConfig::from_pem(certificate.as_bytes(), key.as_bytes()).unwrap();
    let agent = serve_at("grpcs://127.0.0.1:0", |server| {
        server
            .max_connections(MAX_CONNECTIONS)
            .handshake_timeout(Duration::from_secs(60))
            .tls(tls)
    })
    .await;

    let mut idle = Vec::new();
    for _ in 0..3 * MAX_CONNECTIONS {
        idle.push(connect(&agent).await);
    }

    let tls = tollgate::TlsConfig::default()
        .with_roots_pem(certificate.as_bytes())
        .unwrap();
    let started = Instant::now();
    let settings = grpc_config().tls(tls);
    let pool = pool_with(settings, &agent.path).await;
    result_of(call(&pool, "honest")).await.unwrap();
    assert!(started.elapsed() < SOON, "{:?}", started.elapsed());

    for stream in &mut idle[..MAX_CONNECTIONS] {
        expect_end(stream).await;
    }
}

/// Writes the same bytes repeatedly, up to `limit`. Returns whether the other side closed the
/// connection or stopped reading before that.
async fn flood(stream: &mut TcpStream, bytes: &[u8], limit: usize) -> bool {
    let bytes = bytes.repeat(16 * 1024 / bytes.len() + 1);
    for _ in 0..limit / bytes.len() {
        match timeout(Duration::from_millis(500), stream.write_all(&bytes)).await {
            Ok(Ok(())) => {}
            _ => return true,
        }
    }
    false
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn floods_of_frames_do_not_affect_other_connections() {
    const MIB: usize = 1024 * 1024;
    let ping = b"\0\0\x08\x06\0\0\0\0\0pingpong".as_slice();
    let settings = b"\0\0\x06\x04\0\0\0\0\0\0\x04\0\0\xff\xff".as_slice();
    let priority = b"\0\0\x05\x02\0\0\0\0\x01\0\0\0\0\x10".as_slice();
    let window = b"\0\0\x04\x08\0\0\0\0\0\0\0\0\x01".as_slice();
    let unknown = b"\0\0\x01\xee\0\0\0\0\0x".as_slice();

    let agent = serve_grpc().await;
    let established = pool_with(config(Encoding::Protobuf), &agent.path).await;
    let before = crate::common::virtual_memory();
    for (frame, is_ended) in [
        (ping, true),
        (settings, true),
        (priority, false),
        (window, false),
        (unknown, false),
    ] {
        let mut stream = connect(&agent).await;
        stream.write_all(PREFACE).await.unwrap();
        let flooding = tokio::spawn(async move {
            let is_stopped = flood(&mut stream, frame, 16 * MIB).await;
            (is_stopped, stream)
        });
        let mut honest = 0;
        while !flooding.is_finished() || honest < 10 {
            let started = Instant::now();
            result_of(call(&established, "c-1")).await.unwrap();
            assert!(started.elapsed() < SOON);
            honest += 1;
        }

        let (is_stopped, _stream) = flooding.await.unwrap();
        // Frames that need an answer are no longer read once the answers are not read.
        assert!(is_stopped || !is_ended, "{frame:?}");
    }

    let grown = crate::common::virtual_memory().saturating_sub(before);
    assert!(grown < 64 * MIB, "{grown} bytes");
}

#[tokio::test]
async fn rapid_stream_resets_do_not_affect_other_connections() {
    let agent = serve_grpc().await;
    let established = pool_with(config(Encoding::Protobuf), &agent.path).await;
    let mut connection = ClientConnection::to(&agent.path).await;

    for n in 0..5000 {
        if !connection.is_open() {
            break;
        }
        let Some(mut opened) = connection.try_open(PROCESS_STREAM).await else {
            break;
        };
        if n % 2 == 0 {
            opened.send_message(&offer_handshake());
        }
        opened.reset(Reason::CANCEL);
        if n % 100 == 0 {
            let started = Instant::now();
            result_of(call(&established, "c-1")).await.unwrap();
            assert!(started.elapsed() < SOON);
        }
    }

    eventually("all sessions but one are over", async || {
        agent.control.connections() == 1
    })
    .await;
    assert_eq!(faults(&established).await.connections_lost, 0);
    expect_serves_soon(&agent).await;
}

#[tokio::test]
async fn empty_data_frames_do_not_affect_other_connections() {
    let agent = serve_grpc().await;
    let established = pool_with(config(Encoding::Protobuf), &agent.path).await;
    let mut connection = ClientConnection::to(&agent.path).await;
    let mut stream = connection.shake_hands().await;

    for n in 0..20_000 {
        if stream
            .sending
            .send_data(bytes::Bytes::new(), false)
            .is_err()
        {
            break;
        }
        if n % 1000 == 0 {
            result_of(call(&established, "c-1")).await.unwrap();
        }
    }

    expect_serves_soon(&agent).await;
    assert_eq!(faults(&established).await.connections_lost, 0);
}

/// Kinds of frames.
const HEADERS: u8 = 0x01;
const RST_STREAM: u8 = 0x03;
const WINDOW_UPDATE: u8 = 0x08;

/// Encodes a short HTTP/2 frame.
fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let head = [0, 0, payload.len() as u8, kind, flags];
    [&head, &stream.to_be_bytes()[..], payload].concat()
}

/// Encodes the head of a request with these fields, whose body follows.
fn request_head(stream: u32, fields: &[u8]) -> Vec<u8> {
    let end_of_headers = 0x04;
    frame(HEADERS, end_of_headers, stream, fields)
}

/// Returns a request for an unknown method on a stream, and a window update that overflows the
/// stream's window, so that the server has to reset the stream.
fn stream_with_an_overflowing_window(id: u32) -> Vec<u8> {
    // POST, http, `/`: each a field of the static table.
    let head = request_head(id, &[0x83, 0x86, 0x84]);
    let largest = 0x7fff_ffff_u32.to_be_bytes();
    [head, frame(WINDOW_UPDATE, 0, id, &largest)].concat()
}

/// Returns the head of a request for a stream of events.
fn stream_of_events(id: u32) -> Vec<u8> {
    // POST and http, of the static table, and fields whose names are there: path, content type.
    let field = |name: &[u8], value: &str| [name, &[value.len() as u8], value.as_bytes()].concat();
    let path = field(&[0x04], PROCESS_STREAM);
    let content_type = field(&[0x0f, 0x10], "application/grpc");
    request_head(id, &[&[0x83, 0x86], &path[..], &content_type].concat())
}

/// Waits until the server has refused a number of streams.
async fn expect_refused(stream: &mut TcpStream, count: usize) {
    let refused = u32::from(Reason::REFUSED_STREAM).to_be_bytes();
    let read = async {
        let mut seen = 0;
        while seen < count {
            let mut head = [0; 9];
            stream.read_exact(&mut head).await.unwrap();
            let [len @ .., kind, _, _, _, _, _] = head;
            let len = len
                .iter()
                .fold(0, |len, byte| len << 8 | usize::from(*byte));
            let mut payload = vec![0; len];
            stream.read_exact(&mut payload).await.unwrap();
            seen += usize::from(kind == RST_STREAM && payload == refused);
        }
    };
    let read = timeout(TEST_TIMEOUT, read).await;
    read.expect("fewer streams are refused");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn streams_of_events_beyond_the_limit_of_a_connection_are_refused() {
    /// The least for which the server's limit of streams allows.
    const STREAMS: usize = 16;
    let agent = serve().await;
    let pool = pool_with(grpc_config(), &agent.path).await;
    let honest = HonestCalls::to(&pool);
    let mut stream = connect(&agent).await;
    stream.write_all(PREFACE).await.unwrap();

    for id in (1..).step_by(2).take(10 * STREAMS) {
        stream.write_all(&stream_of_events(id)).await.unwrap();
    }
    expect_refused(&mut stream, 9 * STREAMS).await;
    // Beside that of the pool.
    eventually("the first streams are served", async || {
        agent.control.connections() == STREAMS + 1
    })
    .await;
    honest.end().await;
    assert_eq!(faults(&pool).await.connections_lost, 0);

    drop(stream);
    eventually("their sessions are over", async || {
        agent.control.connections() == 1
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn connection_that_overflows_windows_again_and_again_is_closed() {
    let agent = serve().await;
    let pool = pool_with(grpc_config(), &agent.path).await;
    let honest = HonestCalls::to(&pool);
    let mut stream = connect(&agent).await;
    stream.write_all(PREFACE).await.unwrap();
    let (mut receiving, mut sending) = stream.split();
    let flood = async {
        for id in (1..).step_by(2).take(100_000) {
            let stream = stream_with_an_overflowing_window(id);
            if sending.write_all(&stream).await.is_err() {
                return;
            }
        }
        panic!("the connection takes any number of resets");
    };
    let read = async {
        let mut said = [0; 4096];
        while receiving.read(&mut said).await.is_ok_and(|len| len > 0) {}
    };
    let ended = async {
        tokio::select! {
            () = flood => {}
            () = read => {}
        }
    };
    timeout(TEST_TIMEOUT, ended).await.expect("nothing happens");
    honest.end().await;
    assert_eq!(faults(&pool).await.connections_lost, 0);
    expect_serves_soon(&agent).await;
}
