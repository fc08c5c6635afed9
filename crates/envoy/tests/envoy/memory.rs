//! Memory of the agent, whatever its peers leave unread or send without an end.
//!
//! Tests of a limit offer ten times as much, beside a neighbour that has to be served in time. They
//! watch the memory of the process, in which the hostile peers run as well.

use crate::agent::{Agent, Log, Logs, Scripted};
use crate::hostile::{connect, is_alive, message, request};
use crate::transports::framed;
use bytes::Bytes;
use h2::SendStream;
use h2::client::{ResponseFuture, SendRequest};
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::timeout;
use tollgate_envoy::EnvoyConfig;

/// `request_headers` with `:path: /okay`, in full duplex: the agent sends the body back.
const OKAY: &[u8] = b"\x12\x12\x0a\x10\x0a\x0e\x0a\x05:path\x1a\x05/okay\x5a\x02\x08\x04";
/// `request_headers` with `:path: /hang`, in full duplex: the handler does not answer.
const HANG: &[u8] = b"\x12\x12\x0a\x10\x0a\x0e\x0a\x05:path\x1a\x05/hang\x5a\x02\x08\x04";

/// Memory that peers may make the agent hold in the tests of that limit.
const LIMIT: usize = 32 << 20;

/// Memory that the process may hold beside that, for the peers and as the allocator keeps some.
const BESIDE: usize = 96 << 20;

/// Streams that a hostile connection opens. Their bodies of 50,000 bytes fit its window.
const STREAMS: usize = 150;

/// Streams of a connection that keeps the handler busy.
const BUSY_STREAMS: usize = 20;

/// Time within which a neighbour is served.
const SERVED: Duration = Duration::from_secs(1);

/// A stream of which nothing is read once it is silent.
struct Silent {
    stream: TcpStream,
    is_silent: Arc<AtomicBool>,
}

impl AsyncRead for Silent {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match self.is_silent.load(Ordering::Relaxed) {
            true => Poll::Pending,
            false => Pin::new(&mut self.stream).poll_read(cx, buffer),
        }
    }
}

impl AsyncWrite for Silent {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

/// Streams that stay open, and their connection.
struct Hostile {
    _client: SendRequest<Bytes>,
    open: Vec<(ResponseFuture, SendStream<Bytes>)>,
}

impl Hostile {
    /// Opens streams and sends frames on each, until the agent ends the connection.
    async fn open(client: SendRequest<Bytes>, count: usize, frames: &[Bytes]) -> Self {
        let mut open = Vec::new();
        for _ in 0..count {
            let ready = timeout(Duration::from_secs(2), client.clone().ready()).await;
            let Ok(mut ready) = ready.unwrap() else {
                break;
            };
            let Ok((response, mut sending)) = ready.send_request(request(), false) else {
                break;
            };
            for frame in frames {
                let _ = sending.send_data(frame.clone(), false);
            }
            open.push((response, sending));
        }
        Self {
            _client: client,
            open,
        }
    }
}

/// Returns a connection on which HTTP/2 lets the agent send `window` bytes on each stream, and
/// which leaves unread what it sends.
async fn silent(address: SocketAddr, window: u32) -> SendRequest<Bytes> {
    let is_silent = Arc::new(AtomicBool::new(false));
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(16 * 1024).unwrap();
    let silent = Silent {
        stream: socket.connect(address).await.unwrap(),
        is_silent: Arc::clone(&is_silent),
    };
    let mut settings = h2::client::Builder::new();
    settings
        .initial_window_size(window)
        .initial_connection_window_size(1 << 30);
    let (client, connection) = settings.handshake(silent).await.unwrap();
    tokio::spawn(connection);
    let mut client = client.ready().await.unwrap();
    // The settings of the agent have arrived once it answers.
    let (response, _) = client.send_request(request(), true).unwrap();
    response.await.unwrap();
    is_silent.store(true, Ordering::Relaxed);
    client
}

/// Returns a message with a body of this length.
fn body(len: usize) -> Bytes {
    framed(&message(4, &message(1, &vec![b'a'; len])))
}

/// Checks that a neighbour is served in time.
async fn expect_served(client: &mut SendRequest<Bytes>, beside: usize) {
    let served = async {
        *client = client.clone().ready().await.unwrap();
        is_alive(client).await
    };
    let served = timeout(SERVED, served).await;
    assert_eq!(served, Ok(true), "beside {beside} hostile connections");
}

/// Waits until something holds.
async fn until(what: &str, holds: impl Fn() -> bool) {
    let wait = async {
        while !holds() {
            tokio::task::yield_now().await;
        }
    };
    let waited = timeout(Duration::from_secs(20), wait).await;
    waited.unwrap_or_else(|_| panic!("it never holds: {what}"));
}

/// Waits until the handler has seen the bodies of this many streams.
async fn until_seen(logs: &Logs, streams: usize) {
    let is_body = |event: &String| event.starts_with("request0");
    let has_body = |log: &&Log| log.events.iter().any(is_body);
    let has_seen = || logs.all().iter().filter(has_body).count() >= streams;
    until("the handler sees the bodies", has_seen).await;
}

/// Returns the greatest resident memory of this process so far, in bytes.
fn peak() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kib = line.unwrap().trim().trim_end_matches(" kB");
    kib.parse::<usize>().unwrap() * 1024
}

/// Checks that the process has not grown by much more than a limit.
fn expect_grown_within(limit: usize, before: usize) {
    // The system sums up what each processor counts, so it can also seem to shrink.
    let grown = peak().saturating_sub(before);
    assert!(grown < limit + BESIDE, "{} MiB", grown >> 20);
}

#[tokio::test(flavor = "multi_thread")]
async fn proxies_that_never_read_harm_nobody() {
    let agent = Agent::start().await;
    // Nothing but the socket limits what the agent may send.
    let mut client = silent(agent.address, 1 << 30).await;
    let body = body(60_000);
    let mut open = Vec::new();
    while let Ok(ready) = timeout(Duration::from_secs(2), client.ready()).await {
        client = ready.unwrap();
        let (response, mut sending) = client.send_request(request(), false).unwrap();
        let _ = sending.send_data(framed(OKAY), false);
        let _ = sending.send_data(body.clone(), false);
        open.push((response, sending));
    }
    // More than the buffers of the sockets hold.
    assert!(open.len() >= 500, "{} streams", open.len());
    let mut other = connect(agent.address).await;
    for _ in 0..100 {
        expect_served(&mut other, 1).await;
    }
    drop(open);
    assert_eq!(agent.counters.get().undecodable, 0);
}

/// Opens hostile connections until their bodies of `body` bytes are ten times the limit in all.
/// Checks that some of the connections end, the memory fits the limit and a neighbour is served.
async fn flood(
    agent: &Agent,
    hostile: &mut Vec<Hostile>,
    body: usize,
    open: impl AsyncFn() -> Hostile,
) {
    let before = peak();
    let mut neighbour = connect(agent.address).await;
    while body * hostile.iter().map(|peer| peer.open.len()).sum::<usize>() < 10 * LIMIT {
        assert!(hostile.len() < 100, "connections end before they hold much");
        hostile.push(open().await);
        expect_served(&mut neighbour, hostile.len()).await;
    }
    until("connections end", || agent.control.ended_for_memory() > 0).await;
    until("the limit holds", || agent.control.memory_used() <= LIMIT).await;
    expect_served(&mut neighbour, hostile.len()).await;
    expect_grown_within(LIMIT, before);
}

/// Checks that what HTTP/2 holds for connections that take no answers fits the limit of memory.
///
/// One of them is charged once the handler has seen the bodies of `seen` of its streams.
async fn expect_limited(window: u32, head: &[u8], seen: usize) {
    const BODY: usize = 50_000;
    let agent = Agent::with_memory(LIMIT, Scripted::default(), EnvoyConfig::default()).await;
    let frames = [framed(head), body(BODY)];
    let open = async || {
        let client = silent(agent.address, window).await;
        Hostile::open(client, STREAMS, &frames).await
    };
    let mut hostile = vec![open().await];
    until_seen(&agent.logs, seen).await;
    // More than its streams are charged without messages.
    let is_charged = || agent.control.memory_used() > 3 << 20;
    until("the first connection is charged", is_charged).await;
    flood(&agent, &mut hostile, BODY, open).await;
    drop(hostile);
    let is_returned = || agent.control.memory_used() < 1 << 20;
    until("memory is returned", is_returned).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn answers_that_sockets_do_not_take_fit_the_limit() {
    expect_limited(1 << 30, OKAY, STREAMS).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn answers_that_streams_do_not_take_fit_the_limit() {
    expect_limited(1024, OKAY, STREAMS).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn bodies_that_no_handler_reads_fit_the_limit() {
    expect_limited(1 << 30, HANG, 0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn bodies_that_a_handler_keeps_fit_the_limit() {
    const BODY: usize = 500_000;
    // `request_headers` with `:path: /okay`, and BUFFERED.
    let head = b"\x12\x12\x0a\x10\x0a\x0e\x0a\x05:path\x1a\x05/okay\x5a\x02\x08\x02";
    // The handler does not answer.
    let content = [&[b'a'; BODY][..], b"HANG"].concat();
    let body = [message(1, &content), vec![0x10, 1]].concat();
    let frames = [framed(head), framed(&message(4, &body))];
    let config = EnvoyConfig::default().answer_timeout(Duration::from_secs(60));
    let agent = Agent::with_memory(LIMIT, Scripted::default(), config).await;
    let open = async || {
        let client = connect(agent.address).await;
        Hostile::open(client, BUSY_STREAMS, &frames).await
    };
    let mut hostile = vec![open().await];
    until_seen(&agent.logs, BUSY_STREAMS).await;
    let is_charged = || agent.control.memory_used() > BUSY_STREAMS * BODY;
    until("the bodies are charged", is_charged).await;
    flood(&agent, &mut hostile, BODY, open).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn unread_bodies_of_one_connection_fit_its_window() {
    const WINDOW: usize = 8 << 20;
    const CALLS: usize = 1_000;
    // What the streams are charged beside what they carry.
    const EMPTY: usize = CALLS * 8 * 1024;
    let agent = Agent::start().await;
    let mut neighbour = connect(agent.address).await;
    expect_served(&mut neighbour, 0).await;
    // Ten times the window in all.
    let frames = [framed(HANG), body(10 * WINDOW / CALLS + 1)];
    let before = peak();
    let client = connect(agent.address).await;
    let hostile = Hostile::open(client, CALLS, &frames).await;
    assert_eq!(hostile.open.len(), CALLS);
    let is_full = || agent.control.memory_used() > WINDOW * 9 / 10 + EMPTY;
    until("the window is full", is_full).await;
    for _ in 0..100 {
        expect_served(&mut neighbour, 1).await;
        let used = agent.control.memory_used();
        assert!(used < WINDOW + EMPTY + (1 << 20), "{used} bytes");
    }
    expect_grown_within(WINDOW + EMPTY, before);
}

#[tokio::test(flavor = "multi_thread")]
async fn unread_answers_of_one_stream_are_bounded() {
    const ANSWER: usize = 60_000;
    // Ten times 64 KiB.
    const COUNT: usize = 11;
    let agent = Agent::start().await;
    let mut neighbour = connect(agent.address).await;
    expect_served(&mut neighbour, 0).await;
    let mut frames = vec![body(ANSWER); COUNT];
    frames.insert(0, framed(OKAY));
    // The window of the stream stays closed. What is read of the connection opens that of the
    // agent, which could take all of the body.
    let stream = TcpStream::connect(agent.address).await.unwrap();
    let mut settings = h2::client::Builder::new();
    settings.initial_window_size(1024);
    let (client, connection) = settings.handshake(stream).await.unwrap();
    tokio::spawn(connection);
    let _hostile = Hostile::open(client, 1, &frames).await;
    // An answer, and the next part of the body.
    let is_full = || agent.control.memory_used() > ANSWER + 60 * 1024;
    until("an answer waits", is_full).await;
    for _ in 0..100 {
        expect_served(&mut neighbour, 1).await;
        let used = agent.control.memory_used();
        assert!(used < 6 * 64 * 1024, "{used} bytes");
    }
    let logs = agent.logs.all();
    let is_body = |event: &&String| event.starts_with("request");
    let chunks = logs.iter().flat_map(|log| &log.events).filter(is_body);
    assert_eq!(chunks.count(), 1, "the handler works ahead of answers");
}
