//! Health checks, and ends of connections.

use crate::peer::{MAX_FRAME, Peer, Received, Server, ask_path, hello, notify};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::Notify;
use tollgate::{AgentCapabilities, AgentHandler, AgentResponse, RequestHeadersView};
use tollgate_haproxy::SpopSettings;
use tollgate_haproxy::client::Question;
use tollgate_haproxy::wire::{Disconnect, FrameId, FrameKind, Value, put_frame};

/// Allows requests; those for `/wait` once it is told to.
#[derive(Clone, Default)]
struct Agent(Arc<Notify>);

impl AgentHandler for Agent {
    fn capabilities(&self) -> AgentCapabilities {
        AgentCapabilities::new("agent", "Agent", "1")
    }

    async fn on_request_headers(&self, event: RequestHeadersView<'_>) -> AgentResponse {
        if event.path() == "/wait" {
            self.0.notified().await;
        }
        AgentResponse::default_allow()
    }
}

async fn begin_waiting(peer: &mut Peer) {
    let arguments = [("path", Value::from("/wait"))];
    let question = Question {
        name: "tollgate-req",
        arguments: &arguments,
    };
    peer.send(&notify(
        FrameId {
            stream: 9,
            frame: 1,
        },
        &[question],
    ))
    .await;
}

#[tokio::test]
async fn health_check_is_answered_and_closed() {
    let server = Server::start(Agent::default()).await;
    let mut peer = server.open().await;
    peer.send(&hello(MAX_FRAME, true)).await;
    assert_eq!(peer.receive().await, Received::Hello(MAX_FRAME));
    assert_eq!(peer.receive().await, Received::End);
}

#[tokio::test]
async fn disconnect_is_answered() {
    let server = Server::start(Agent::default()).await;
    let mut peer = server.connect().await;
    let mut bytes = Vec::new();
    put_frame(
        &mut bytes,
        FrameKind::HaproxyDisconnect,
        FrameId::default(),
        |out| {
            Disconnect {
                code: 0,
                message: b"bye",
            }
            .write(out);
        },
    );
    peer.send(&bytes).await;
    peer.is_ended_with(0).await;
}

#[tokio::test]
async fn stopping_server_answers_what_is_open_and_leaves_in_silence() {
    let agent = Agent::default();
    let mut server = Server::start(agent.clone()).await;
    let mut peer = server.connect().await;
    begin_waiting(&mut peer).await;
    ask_path(&mut peer, "/").await;
    server.stop();
    agent.0.notify_one();
    let Received::Ack(id, answer) = peer.receive().await else {
        panic!("no answer");
    };
    assert_eq!((id.stream, answer.text("action")), (9, Some("allow")));
    // A question that follows the answer is answered as well.
    let answer = ask_path(&mut peer, "/").await;
    assert_eq!(answer.text("action"), Some("allow"));
    let answered = Instant::now();
    peer.is_ended_with(0).await;
    assert!(answered.elapsed() >= Duration::from_millis(15));
    server.stopped().await;
}

#[tokio::test]
async fn silence_begins_with_the_last_answer() {
    let agent = Agent::default();
    let mut server = Server::start(agent.clone()).await;
    let mut peer = server.connect().await;
    begin_waiting(&mut peer).await;
    ask_path(&mut peer, "/").await;
    server.stop();
    // Longer than the silence that the agent waits for.
    tokio::time::sleep(Duration::from_millis(100)).await;
    agent.0.notify_one();
    let Received::Ack(id, _) = peer.receive().await else {
        panic!("no answer");
    };
    assert_eq!(id.stream, 9);
    // The question about the response follows at once.
    let answer = ask_path(&mut peer, "/").await;
    assert_eq!(answer.text("action"), Some("allow"));
    peer.is_ended_with(0).await;
    server.stopped().await;
}

#[tokio::test]
async fn connection_accepted_before_the_stop_is_served() {
    let mut server = Server::start(Agent::default()).await;
    let mut greeted = server.connect().await;
    let mut peer = server.open().await;
    // The server has accepted both once it answers this.
    ask_path(&mut greeted, "/").await;
    peer.send(&hello(MAX_FRAME, false)).await;
    server.stop();
    assert_eq!(peer.receive().await, Received::Hello(MAX_FRAME));
    let answer = ask_path(&mut peer, "/").await;
    assert_eq!(answer.text("action"), Some("allow"));
    peer.is_ended_with(0).await;
    server.stopped().await;
}

#[tokio::test]
async fn silent_connections_give_way_to_others() {
    let settings = SpopSettings::default();
    let server = Server::with(Agent::default(), settings, |it| it.max_connections(2)).await;
    let mut first = server.connect().await;
    let mut second = server.connect().await;
    ask_path(&mut second, "/").await;
    let mut third = server.connect().await;
    ask_path(&mut third, "/").await;
    first.is_ended_with(0).await;
    ask_path(&mut second, "/").await;
}

#[tokio::test]
async fn connection_that_is_closed_harms_no_other() {
    let agent = Agent::default();
    let server = Server::start(agent.clone()).await;
    let mut peer = server.connect().await;
    begin_waiting(&mut peer).await;
    drop(peer);
    let mut other = server.connect().await;
    let answer = ask_path(&mut other, "/").await;
    assert_eq!(answer.text("action"), Some("allow"));
    server.stopped().await;
}
