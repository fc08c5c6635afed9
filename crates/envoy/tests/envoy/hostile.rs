//! Bad input: the request fails, and other streams go on.

use crate::agent::Agent;
use crate::transports::{call, framed};
use bytes::{BufMut, Bytes, BytesMut};
use h2::client::SendRequest;
use http::Request;
use std::net::SocketAddr;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

const PROCESS: &str = "/envoy.service.ext_proc.v3.ExternalProcessor/Process";
const CHECK: &str = "/envoy.service.auth.v3.Authorization/Check";

/// `request_headers` with the header `:path: /ok`, and no body.
const HEAD: &[u8] = b"\x12\x14\x0a\x10\x0a\x0e\x0a\x05:path\x1a\x05/deny\x18\x01";
/// `request_body` and `request_trailers`.
const BODY: &[u8] = b"\x22\x03\x0a\x01x";
const TRAILERS: &[u8] = b"\x32\x00";

pub(crate) async fn connect(address: SocketAddr) -> SendRequest<Bytes> {
    let stream = TcpStream::connect(address).await.unwrap();
    let mut settings = h2::client::Builder::new();
    // Answers on streams that were reset are not read, and are no errors of the agent.
    settings
        .data_frame_budget(usize::MAX)
        .max_local_error_reset_streams(None);
    let (client, connection) = settings.handshake(stream).await.unwrap();
    tokio::spawn(connection);
    client.ready().await.unwrap()
}

pub(crate) fn request() -> Request<()> {
    Request::post(format!("http://agent{PROCESS}"))
        .header("content-type", "application/grpc")
        .body(())
        .unwrap()
}

/// Sends frames on a stream and closes it. Returns the bytes of the answers and the status.
async fn exchange(client: &mut SendRequest<Bytes>, frames: &[Bytes]) -> (Bytes, String) {
    let (response, mut sending) = client.send_request(request(), false).unwrap();
    for frame in frames {
        // The agent may have ended the stream.
        let _ = sending.send_data(frame.clone(), false);
    }
    let _ = sending.send_data(Bytes::new(), true);
    let response = timeout(Duration::from_secs(20), response)
        .await
        .unwrap()
        .unwrap();
    let status = |headers: &http::HeaderMap| {
        let status = headers.get("grpc-status");
        status.map(|status| status.to_str().unwrap().to_owned())
    };
    if let Some(status) = status(response.headers()) {
        return (Bytes::new(), status);
    }
    let mut body = response.into_body();
    let mut received = BytesMut::new();
    while let Some(data) = body.data().await {
        let data = data.unwrap();
        body.flow_control().release_capacity(data.len()).unwrap();
        received.extend_from_slice(&data);
    }
    let trailers = body.trailers().await.unwrap().unwrap();
    (received.freeze(), status(&trailers).unwrap())
}

/// Returns whether the agent denies a request for `/deny`.
pub(crate) async fn is_alive(client: &mut SendRequest<Bytes>) -> bool {
    let (answer, status) = exchange(client, &[framed(HEAD)]).await;
    // Field 7, `immediate_response`.
    answer.get(5..).is_some_and(|answer| answer.contains(&0x3a)) && status == "0"
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_decoded_ends_its_stream_alone() {
    let agent = Agent::start().await;
    let mut client = connect(agent.address).await;
    assert!(is_alive(&mut client).await);
    let mut compressed = framed(HEAD).to_vec();
    compressed[0] = 1;
    for (name, frames) in [
        ("garbage", vec![framed(b"\xff\xff\xff")]),
        ("empty", vec![framed(b"")]),
        ("two phases", vec![framed(&[HEAD, BODY].concat())]),
        ("a body of an unknown mode", vec![framed(BODY)]),
        ("compressed", vec![compressed.into()]),
        ("cut short", vec![Bytes::from_static(b"\0\0\0\0\x09\x12")]),
        ("too large", vec![Bytes::from_static(b"\0\x7f\xff\xff\xff")]),
        ("nothing in it", vec![Bytes::from_static(b"\0\0")]),
    ] {
        let (_, status) = exchange(&mut client, &frames).await;
        assert_ne!(status, "0", "{name}");
        assert!(is_alive(&mut client).await, "{name}");
    }
    let (answer, status) = exchange(&mut client, &[]).await;
    assert_eq!(
        (answer.len(), &*status),
        (0, "0"),
        "nothing was to be judged"
    );
    let (_, status) = call(agent.address, CHECK, b"\xff").await;
    assert_ne!(status, "0");
    let (_, status) = call(agent.address, CHECK, b"").await;
    assert_ne!(status, "0");
    let counts = agent.counters.get();
    assert!(
        counts.undecodable >= 6 && counts.too_large == 1,
        "{counts:?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn second_heads_are_refused() {
    let agent = Agent::start().await;
    let mut client = connect(agent.address).await;
    // A response's head, twice.
    let response = framed(b"\x1a\x00");
    let (_, status) = exchange(&mut client, &[response.clone(), response]).await;
    assert_ne!(status, "0");
    let trailers = framed(TRAILERS);
    let (answer, status) = exchange(&mut client, &[trailers]).await;
    assert_eq!((&answer[5..], &*status), (&b"\x2a\x00"[..], "0"));
}

#[tokio::test(flavor = "multi_thread")]
async fn streams_that_are_reset_leave_nothing_behind() {
    let agent = Agent::start().await;
    let mut client = connect(agent.address).await;
    let frames = [None, Some(framed(HEAD)), Some(framed(HEAD).slice(..7))];
    for number in 0..100_000 {
        client = client.ready().await.unwrap();
        let (response, mut sending) = client.send_request(request(), false).unwrap();
        if let Some(frame) = &frames[number % frames.len()] {
            let _ = sending.send_data(frame.clone(), false);
        }
        sending.send_reset(h2::Reason::CANCEL);
        drop(response);
        // Other streams of the connection are answered meanwhile.
        if number % 1000 == 0 {
            client = client.ready().await.unwrap();
            assert!(is_alive(&mut client).await, "after {number} streams");
        }
    }
    // The streams are over for the agent once it answers one that was opened after them.
    client = client.ready().await.unwrap();
    assert!(is_alive(&mut client).await);
    let mut other = connect(agent.address).await;
    assert!(is_alive(&mut other).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn deep_attributes_and_many_headers_are_read() {
    let agent = Agent::start().await;
    let mut client = connect(agent.address).await;
    let mut nested = vec![0x1a, 1, b'x'];
    for _ in 0..1000 {
        let mut outer = message(1, &nested);
        outer = message(6, &outer);
        nested = outer;
    }
    let entry = [message(1, b"deep"), message(2, &nested)].concat();
    let attributes = [message(1, b"filter"), message(2, &message(1, &entry))].concat();
    let mut map = Vec::new();
    for number in 0..5000 {
        let name = format!("x-{number}");
        let header = [message(1, name.as_bytes()), message(3, b"v")].concat();
        map.extend_from_slice(&message(1, &header));
    }
    let path = [message(1, b":path"), message(3, b"/deny")].concat();
    map.extend_from_slice(&message(1, &path));
    let head = message(2, &[message(1, &map), vec![0x18, 1]].concat());
    let whole = [head, message(9, &attributes)].concat();
    let (answer, status) = exchange(&mut client, &[framed(&whole)]).await;
    assert!(answer[5..].contains(&0x3a), "denied");
    assert_eq!(status, "0");
}

/// Returns a field with bytes.
pub(crate) fn message(field: u8, content: &[u8]) -> Vec<u8> {
    let mut encoded = vec![field << 3 | 2];
    let mut len = content.len();
    while len >= 0x80 {
        encoded.push(len as u8 | 0x80);
        len >>= 7;
    }
    encoded.push(len as u8);
    encoded.extend_from_slice(content);
    encoded
}

#[tokio::test(flavor = "multi_thread")]
async fn denial_that_cannot_be_sent_is_no_leave() {
    let agent = Agent::start().await;
    let stream = TcpStream::connect(agent.address).await.unwrap();
    // The agent may send no data, so the denial stays behind. Status 0 would allow the request.
    let mut settings = h2::client::Builder::new();
    let (client, connection) = settings
        .initial_window_size(0)
        .handshake(stream)
        .await
        .unwrap();
    tokio::spawn(connection);
    let mut client = client.ready().await.unwrap();
    let (_, status) = exchange(&mut client, &[framed(HEAD)]).await;
    assert_ne!(status, "0");
}

#[tokio::test(flavor = "multi_thread")]
async fn trailers_end_a_buffered_body_that_is_empty() {
    let agent = Agent::start().await;
    let mut client = connect(agent.address).await;
    // `request_headers` with `:path: /more`, about which the agent is undecided, and BUFFERED.
    let head = b"\x12\x12\x0a\x10\x0a\x0e\x0a\x05:path\x1a\x05/more\x5a\x02\x08\x02";
    let (_, status) = exchange(&mut client, &[framed(head), framed(TRAILERS)]).await;
    assert_eq!(status, "0");
    let seen = agent.logs.completed("").await.events;
    assert!(seen.iter().any(|event| event == "request0:."), "{seen:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn headers_without_an_end_are_refused() {
    let agent = Agent::start().await;
    let mut stream = TcpStream::connect(agent.address).await.unwrap();
    let frame = |kind: u8, flags: u8, stream: u32, payload: &[u8]| {
        let mut frame = BytesMut::new();
        frame.put_uint(payload.len() as u64, 3);
        frame.put_u8(kind);
        frame.put_u8(flags);
        frame.put_u32(stream);
        frame.extend_from_slice(payload);
        frame
    };
    stream
        .write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")
        .await
        .unwrap();
    stream.write_all(&frame(4, 0, 0, b"")).await.unwrap();
    // `x: …`, a literal that is not indexed, again and again, and no END_HEADERS.
    let field = [&b"\x00\x01x\x7f\x81\x01"[..], &[b'a'; 256]].concat();
    let part = field.repeat(60);
    stream.write_all(&frame(1, 0, 1, &part)).await.unwrap();
    let mut sent = 0;
    let (mut reader, mut writer) = stream.split();
    let flood = async {
        while sent < 64 << 20 && writer.write_all(&frame(9, 0, 1, &part)).await.is_ok() {
            sent += part.len();
        }
    };
    let mut received = Vec::new();
    let ended = async { reader.read_to_end(&mut received).await };
    let both = async { tokio::join!(flood, ended) };
    let ended = timeout(Duration::from_secs(30), both).await;
    assert!(ended.is_ok(), "the connection was not ended");
    assert!(sent < 16 << 20, "{sent} bytes were taken");
    let mut client = connect(agent.address).await;
    assert!(is_alive(&mut client).await);
}
