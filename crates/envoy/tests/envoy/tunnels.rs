//! WebSocket: what follows a 101 is no body, and what comes before it is one.

use crate::agent::Agent;
use crate::proxy::{Envoy, ext_proc};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;

const OVERRIDE: &str = "allow_mode_override: true";

/// An upstream that accepts every upgrade and echoes what follows. Remembers what it got.
async fn echo() -> (SocketAddr, Arc<Mutex<Vec<u8>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let received = Arc::new(Mutex::new(Vec::new()));
    let noted = Arc::clone(&received);
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(upgrade(stream, Arc::clone(&noted)));
        }
    });
    (address, received)
}

async fn upgrade(mut stream: TcpStream, noted: Arc<Mutex<Vec<u8>>>) {
    let mut head = Vec::new();
    let early = loop {
        if let Some(end) = head.windows(4).position(|end| end == b"\r\n\r\n") {
            break head.split_off(end + 4);
        }
        match stream.read_buf(&mut head).await {
            Ok(0) | Err(_) => return,
            Ok(_) => {}
        }
    };
    let answer = "HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\n\
                  upgrade: websocket\r\n\r\n";
    let mut bytes = early;
    let _ = stream.write_all(answer.as_bytes()).await;
    loop {
        noted.lock().unwrap().extend_from_slice(&bytes);
        let _ = stream.write_all(&bytes).await;
        bytes.clear();
        match stream.read_buf(&mut bytes).await {
            Ok(0) | Err(_) => return,
            Ok(_) => {}
        }
    }
}

/// Asks for a WebSocket connection, with bytes that do not wait for the answer.
async fn ask(to: SocketAddr, case: &str, early: &str) -> TcpStream {
    let mut stream = TcpStream::connect(to).await.unwrap();
    let head = format!(
        "GET /socket HTTP/1.1\r\nhost: test\r\nx-case: {case}\r\nconnection: upgrade\r\n\
         upgrade: websocket\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\
         sec-websocket-version: 13\r\n\r\n{early}"
    );
    stream.write_all(head.as_bytes()).await.unwrap();
    stream
}

/// Reads until what was received contains a text.
async fn read_until(stream: &mut TcpStream, wanted: &str) -> String {
    let mut received = Vec::new();
    let reading = async {
        loop {
            let text = String::from_utf8_lossy(&received).into_owned();
            if text.contains(wanted) || !matches!(stream.read_buf(&mut received).await, Ok(1..)) {
                return text;
            }
        }
    };
    let read = timeout(Duration::from_secs(20), reading).await;
    read.unwrap_or_else(|_| panic!("{wanted:?} did not come"))
}

#[tokio::test(flavor = "multi_thread")]
async fn frames_pass_by_the_agent() {
    let agent = Agent::start().await;
    let (upstream, received) = echo().await;
    let filters = [
        ext_proc("NONE", ""),
        ext_proc("STREAMED", ""),
        ext_proc("STREAMED", OVERRIDE),
        ext_proc("FULL_DUPLEX_STREAMED", ""),
    ];
    let address = agent.address.to_string();
    let envoy = Envoy::before("http_protocol_options", &filters, &address, upstream).await;
    for at in 0..filters.len() {
        let case = format!("socket-{at}");
        let mut stream = ask(envoy.address(at), &case, "").await;
        let head = read_until(&mut stream, "\r\n\r\n").await;
        assert!(head.starts_with("HTTP/1.1 101"), "{case}: {head}");
        for part in ["BLOCK", "HOLD", "PANIC"] {
            stream.write_all(part.as_bytes()).await.unwrap();
            assert_eq!(read_until(&mut stream, part).await, part, "{case}");
        }
        drop(stream);
        let log = agent.logs.completed(&case).await;
        let heads = ["head GET /socket", "status 101"];
        assert_eq!(log.events[..2], heads, "{case}: {log:?}");
        assert_eq!(log.events[2..], ["complete"], "{case}: {log:?}");
        assert_eq!(log.completes.len(), 1, "{case}: {log:?}");
        assert_eq!(log.completes[0].0, 101, "{case}: {log:?}");
    }
    assert_eq!(received.lock().unwrap().len(), 14 * filters.len());
}

#[tokio::test(flavor = "multi_thread")]
async fn bytes_before_the_upgrade_are_judged() {
    let agent = Agent::start().await;
    let (upstream, received) = echo().await;
    let filters = [
        ext_proc("STREAMED", OVERRIDE),
        ext_proc("FULL_DUPLEX_STREAMED", ""),
    ];
    let address = agent.address.to_string();
    let envoy = Envoy::before("http_protocol_options", &filters, &address, upstream).await;
    for at in 0..filters.len() {
        let mut stream = ask(envoy.address(at), "early", "BLOCK early").await;
        let answer = read_until(&mut stream, "no such text").await;
        assert!(!answer.contains("early"), "{at}: {answer}");
    }
    // What is held is not decided, and a tunnel has no end at which it could be.
    let mut stream = ask(envoy.address(1), "held", "HOLD early").await;
    let answer = read_until(&mut stream, "no such text").await;
    assert!(!answer.starts_with("HTTP/1.1 101"), "{answer}");
    let received = String::from_utf8_lossy(&received.lock().unwrap()).into_owned();
    assert!(!received.contains("early"), "{received}");
}
