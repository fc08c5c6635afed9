//! A listener of another protocol, as a crate of its own would write it: lines of text, over the
//! public API.

use crate::common::{RuleAgent, TEST_TIMEOUT, config, eventually, expect_decides, pool_with};
use std::io;
use std::path::Path;
use std::time::Duration;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader, Lines};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tollgate::listener::{Incoming, Listener, OtherSession};
use tollgate::{
    AgentServer, AgentServerBuilder, BodyChunk, CancelReason, Decision, Encoding, Metadata,
    RequestBodyChunk, RequestHeaders,
};

/// Accepts peers that greet with `hello` and then send a path per line.
struct LineListener(TcpListener);

impl Listener for LineListener {
    async fn accept(&self) -> io::Result<Incoming> {
        let (stream, _) = self.0.accept().await?;
        Ok(Incoming::session(async move |session| {
            // The peer has gone.
            let _ = serve_lines(stream, session).await;
        }))
    }

    fn endpoint(&self) -> String {
        format!("lines://{}", self.0.local_addr().unwrap())
    }
}

async fn serve_lines(stream: TcpStream, mut session: OtherSession) -> io::Result<()> {
    let mut stream = BufReader::new(stream);
    let mut line = String::new();
    stream.read_line(&mut line).await?;
    if line != "hello\n" {
        return Ok(());
    }
    session.established().await;
    let agent = session.capabilities().agent_id;
    stream.write_all(format!("{agent}\n").as_bytes()).await?;
    loop {
        line.clear();
        tokio::select! {
            biased;
            read = stream.read_line(&mut line) => if read? == 0 {
                session.cancel("1", CancelReason::ClientDisconnect);
                return Ok(());
            },
            () = session.stopping() => return stream.write_all(b"stopping\n").await,
        }
        let answer = answer(&session, line.trim_end()).await;
        stream.write_all(format!("{answer}\n").as_bytes()).await?;
    }
}

async fn answer(session: &OtherSession, path: &str) -> String {
    let head = RequestHeaders {
        metadata: Metadata {
            request_id: "1",
            ..Metadata::default()
        },
        method: "GET",
        uri: path,
        headers: &[("host", "example.com")][..],
    };
    let answer = match path.strip_prefix("body ") {
        None => session.ask("1", &head).await,
        Some(body) => {
            let body = body.repeat(1000).into();
            let chunk = RequestBodyChunk(BodyChunk::new("1", body, 0, true));
            session.ask("1", &chunk).await
        }
    };
    match answer.map(|answer| answer.decision) {
        Ok(Decision::Allow) => "allow".to_owned(),
        Ok(Decision::Block { status, .. }) => format!("block {status}"),
        other => format!("{other:?}"),
    }
}

struct Served {
    address: String,
    stop: oneshot::Sender<()>,
    serving: JoinHandle<()>,
}

async fn serve(server: AgentServerBuilder<RuleAgent>) -> Served {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let server = server.listen_on(LineListener(listener));
    let server = server.bind().await.unwrap();
    let endpoint = server.endpoints().remove(0);
    let (stop, stopped) = oneshot::channel::<()>();
    let stopped = async { drop(stopped.await) };
    Served {
        address: endpoint.strip_prefix("lines://").unwrap().to_owned(),
        stop,
        serving: tokio::spawn(async { server.serve_until(stopped).await.unwrap() }),
    }
}

struct Peer(Lines<BufReader<TcpStream>>);

impl Peer {
    async fn connect(server: &Served) -> Self {
        let stream = TcpStream::connect(&server.address).await.unwrap();
        Self(BufReader::new(stream).lines())
    }

    async fn ask(&mut self, line: &str) -> Option<String> {
        self.send(line).await;
        self.next().await
    }

    async fn send(&mut self, line: &str) {
        let line = format!("{line}\n");
        self.0.get_mut().write_all(line.as_bytes()).await.unwrap();
    }

    async fn next(&mut self) -> Option<String> {
        let line = timeout(TEST_TIMEOUT, self.0.next_line()).await;
        // The end may be a reset.
        line.expect("no line arrives").unwrap_or_default()
    }
}

fn builder() -> AgentServerBuilder<RuleAgent> {
    AgentServer::builder(RuleAgent::default()).handshake_timeout(6 * TEST_TIMEOUT)
}

#[tokio::test]
async fn sessions_ask_the_handler() {
    let agent = RuleAgent::default();
    let (seen, cancelled) = (agent.seen.clone(), agent.cancelled.clone());
    let server = serve(AgentServer::builder(agent)).await;
    let mut peer = Peer::connect(&server).await;
    assert_eq!(peer.ask("hello").await.unwrap(), "rule-agent");
    assert_eq!(peer.ask("/").await.unwrap(), "allow");
    assert_eq!(peer.ask("/block").await.unwrap(), "block 403");
    assert_eq!(peer.ask("body x").await.unwrap(), "allow");
    let seen = seen.lock().unwrap().clone();
    assert_eq!(seen[1]["uri"], "/block");
    assert_eq!(seen[1]["headers"]["host"][0], "example.com");
    assert_eq!(seen[1]["metadata"]["correlation_id"], "1");
    assert_eq!(seen[2]["bytes_received"].as_u64(), Some(1000));

    drop(peer);
    eventually("the handler is told", async || {
        cancelled.lock().unwrap().len() == 1
    })
    .await;
}

#[tokio::test]
async fn peers_without_a_handshake_give_way() {
    let server = serve(builder().max_connections(3)).await;
    let mut silent = Vec::new();
    for _ in 0..20 {
        silent.push(Peer::connect(&server).await);
    }
    let mut peer = Peer::connect(&server).await;
    assert_eq!(peer.ask("hello").await.unwrap(), "rule-agent");
    assert_eq!(silent[0].next().await, None);
    assert_eq!(peer.ask("/block").await.unwrap(), "block 403");
}

#[tokio::test]
async fn peers_without_a_handshake_are_closed_in_time() {
    let server = serve(builder().handshake_timeout(Duration::from_millis(50))).await;
    let mut silent = Peer::connect(&server).await;
    assert_eq!(silent.next().await, None);
}

#[tokio::test]
async fn limit_of_connections_counts_all_protocols() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("agent.sock");
    let listen = path.display().to_string();
    let server = serve(builder().listen(listen).max_connections(1)).await;
    let mut first = Peer::connect(&server).await;
    assert_eq!(first.ask("hello").await.unwrap(), "rule-agent");

    let connecting = pool_with(config(Encoding::Json), Path::new(&path));
    let mut connecting = std::pin::pin!(connecting);
    tokio::select! {
        _ = &mut connecting => panic!("the proxy is served beyond the limit"),
        answer = first.ask("/") => assert_eq!(answer.unwrap(), "allow"),
    }
    drop(first);
    expect_decides(&connecting.await).await;
}

#[tokio::test]
async fn sessions_end_when_the_server_stops() {
    let server = serve(builder()).await;
    let mut peer = Peer::connect(&server).await;
    assert_eq!(peer.ask("hello").await.unwrap(), "rule-agent");
    drop(server.stop);
    assert_eq!(peer.next().await.unwrap(), "stopping");
    assert_eq!(peer.next().await, None);
    let ended = timeout(TEST_TIMEOUT, server.serving).await;
    ended.expect("the server does not drain").unwrap();
    let mut rest = Vec::new();
    let mut stream = peer.0.into_inner();
    assert_eq!(stream.read_to_end(&mut rest).await.unwrap_or_default(), 0);
}
