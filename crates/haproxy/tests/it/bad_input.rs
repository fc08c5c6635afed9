//! Input that HAProxy does not send, and input that it sends on bad days.

use crate::peer::{DEADLINE, MAX_FRAME, Peer, Received, Server, ask_path, hello, notify};
use std::collections::HashSet;
use std::time::Duration;
use tokio::io::AsyncWriteExt;
use tokio::time::timeout;
use tollgate::{
    AgentCapabilities, AgentHandler, AgentResponse, Decision, HeaderOp, RequestHeadersView,
};
use tollgate_haproxy::SpopSettings;
use tollgate_haproxy::client::{Answer, Question};
use tollgate_haproxy::wire::{FrameId, FrameKind, Value, put_frame};

/// Allows requests, with headers, bodies, waits and panics that the path asks for.
struct Agent;

impl AgentHandler for Agent {
    fn capabilities(&self) -> AgentCapabilities {
        AgentCapabilities::new("agent", "Agent", "1")
    }

    async fn on_request_headers(&self, event: RequestHeadersView<'_>) -> AgentResponse {
        let path = event.path();
        let size: usize = path.rsplit('/').next().unwrap().parse().unwrap_or(0);
        let large = || "x".repeat(size);
        match path.split('/').nth(1).unwrap_or_default() {
            "panic" => panic!("a handler panics"),
            "wait" => {
                tokio::time::sleep(Duration::from_millis(size as u64)).await;
                AgentResponse::default_allow()
            }
            "body" => AgentResponse::block(403, Some(large())),
            "reasons" => {
                let mut response = AgentResponse::block(403, Some("no".to_owned()));
                response.audit.tags.push(large());
                response
            }
            "url" => AgentResponse::redirect(large(), 302),
            "header" => AgentResponse::default_allow().add_request_header(HeaderOp::Set {
                name: "x".to_owned(),
                value: large(),
            }),
            _ => AgentResponse::decided(Decision::Allow),
        }
    }
}

async fn allows(peer: &mut Peer) {
    assert_eq!(ask_path(peer, "/").await.text("action"), Some("allow"));
}

/// Checks that a connection that sends these bytes after the hellos ends with this status, and that
/// another one is unharmed.
async fn ends_with(bytes: &[u8], code: u32) {
    let server = Server::start(Agent).await;
    let mut other = server.connect().await;
    allows(&mut other).await;
    let mut peer = server.connect().await;
    peer.send(bytes).await;
    peer.is_ended_with(code).await;
    allows(&mut other).await;
    server.stopped().await;
}

/// Writes a frame with these flags.
fn frame(kind: u8, flags: u32, rest: &[u8]) -> Vec<u8> {
    let len = u32::try_from(5 + rest.len()).unwrap();
    let mut frame = len.to_be_bytes().to_vec();
    frame.push(kind);
    frame.extend_from_slice(&flags.to_be_bytes());
    frame.extend_from_slice(rest);
    frame
}

#[tokio::test]
async fn frames_that_are_too_large_end_the_connection() {
    ends_with(&[0xff; 4], 3).await;
    ends_with(&((1 << 20) + 1u32).to_be_bytes(), 3).await;
    ends_with(&[0; 4], 4).await;
}

#[tokio::test]
async fn pieces_of_payloads_are_refused() {
    ends_with(&frame(3, 0, b"\x01\x01"), 10).await;
    ends_with(&frame(0, 1, b"\x01\x01"), 10).await;
    ends_with(&frame(3, 3, b"\x01\x01"), 10).await;
}

#[tokio::test]
async fn frames_that_may_not_come_are_refused() {
    ends_with(&hello(MAX_FRAME, false), 4).await;
    ends_with(&frame(103, 1, b"\x01\x01"), 4).await;
    ends_with(&frame(42, 1, b"\x01\x01"), 4).await;
    // Without ids there is no way to answer.
    ends_with(&frame(3, 1, b""), 4).await;
    ends_with(
        &frame(3, 1, b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff"),
        4,
    )
    .await;
}

#[tokio::test]
async fn hello_with_a_fault_ends_the_connection() {
    let server = Server::start(Agent).await;
    for (payload, code) in [
        (&b""[..], 5),
        (b"\x12supported-versions\x08\x032.0", 6),
        (b"\x12supported-versions\x08\x031.0\x0emax-frame-size\x03\xfc\xf0\x06\x0ccapabilities\x08\x00", 8),
        (b"\x12supported-versions\x08\x032.0\x0emax-frame-size\x03\x64\x0ccapabilities\x08\x00", 9),
        (b"\x12supp", 4),
    ] {
        let mut peer = server.open().await;
        let rest = [b"\x00\x00", payload].concat();
        peer.send(&frame(1, 1, &rest)).await;
        peer.is_ended_with(code).await;
    }
    let mut peer = server.open().await;
    peer.send(&frame(3, 1, b"\x01\x01")).await;
    peer.is_ended_with(4).await;
}

#[tokio::test]
async fn payloads_that_are_not_spop_are_denied() {
    let server = Server::start(Agent).await;
    let mut peer = server.connect().await;
    let long = b"\x0ctollgate-req\x01\x04path\x08\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff";
    for payload in [
        &b"\xff"[..],
        b"\x0ctollgate-req",
        b"\x0ctollgate-req\x02\x04path\x08\x01/",
        b"\x0ctollgate-req\x01\x04path\x0f",
        b"\x0ctollgate-req\x01\x04path\x08\xf0\x00",
        long,
        b"",
    ] {
        let id = FrameId {
            stream: 7,
            frame: 2,
        };
        let mut bytes = Vec::new();
        put_frame(&mut bytes, FrameKind::Notify, id, |out| {
            out.0.extend_from_slice(payload);
        });
        peer.send(&bytes).await;
        let Received::Ack(answered, answer) = peer.receive().await else {
            panic!("no answer to {payload:?}");
        };
        assert_eq!(answered, id);
        for name in ["action", "res_action"] {
            assert_eq!(answer.text(name), Some("deny"), "{payload:?}");
        }
        assert_eq!(answer.number("status"), Some(500));
    }
    allows(&mut peer).await;
}

#[tokio::test]
async fn arguments_that_cannot_be_are_denied() {
    let server = Server::start(Agent).await;
    let mut peer = server.connect().await;
    let path = ("path", Value::from("/"));
    let cases: [&[(&str, Value<'_>)]; 9] = [
        &[("path", Value::Int64(1))],
        &[path, ("headers", Value::Int64(1))],
        &[path, ("headers", Value::Binary(b"\x01a\x01b"))],
        &[path, ("headers", Value::from("host: a\r\n"))],
        &[path, ("src-ip", Value::from("nowhere"))],
        &[path, ("body-size", Value::Int64(-1))],
        &[path, ("src-port", Value::Int64(65_536))],
        &[path, ("body", Value::Bool(true))],
        &[path, path],
    ];
    for arguments in cases {
        let answer = peer.ask("tollgate-req", arguments).await;
        assert_eq!(answer.text("action"), Some("deny"), "{arguments:?}");
        assert_eq!(answer.text("reason"), Some("invalid_argument"));
    }
    let many: Vec<_> = (0..255).map(|_| ("", Value::Null)).collect();
    let answer = peer.ask("tollgate-req", &many).await;
    assert_eq!(answer.text("action"), Some("allow"));
}

#[tokio::test]
async fn three_hundred_questions_of_one_connection_are_answered() {
    let server = Server::start(Agent).await;
    let mut peer = server.connect().await;
    let arguments = [("path", Value::from("/wait/30"))];
    let mut bytes = Vec::new();
    for stream in 0..300 {
        let question = Question {
            name: "tollgate-req",
            arguments: &arguments,
        };
        bytes.extend(notify(FrameId { stream, frame: 1 }, &[question]));
    }
    peer.send(&bytes).await;
    let mut answered = HashSet::new();
    for _ in 0..300 {
        match peer.receive().await {
            Received::Ack(id, answer) => {
                assert_eq!(answer.text("action"), Some("allow"));
                assert!(answered.insert(id.stream));
            }
            other => panic!("{other:?}"),
        }
    }
}

#[tokio::test]
async fn quick_answers_overtake_slow_ones() {
    let server = Server::start(Agent).await;
    let mut peer = server.connect().await;
    for (stream, path) in [(1, "/wait/20000"), (3, "/")] {
        let arguments = [("path", Value::from(path))];
        let question = Question {
            name: "tollgate-req",
            arguments: &arguments,
        };
        peer.send(&notify(FrameId { stream, frame: 1 }, &[question]))
            .await;
    }
    let Received::Ack(id, _) = peer.receive().await else {
        panic!("no answer");
    };
    assert_eq!(id.stream, 3);
}

#[tokio::test]
async fn byte_per_segment_is_read() {
    let server = Server::start(Agent).await;
    let mut peer = server.open().await;
    let arguments = [("path", Value::from("/"))];
    let question = Question {
        name: "tollgate-req",
        arguments: &arguments,
    };
    let mut bytes = hello(MAX_FRAME, false);
    bytes.extend(notify(FrameId::default(), &[question]));
    for byte in bytes {
        peer.send(&[byte]).await;
        tokio::task::yield_now().await;
    }
    assert_eq!(peer.receive().await, Received::Hello(MAX_FRAME));
    assert!(matches!(peer.receive().await, Received::Ack(..)));
}

#[tokio::test]
async fn frame_without_progress_ends_the_connection() {
    let settings = SpopSettings::default();
    let short = Duration::from_millis(50);
    let server = Server::with(Agent, settings, |server| server.frame_timeout(short)).await;
    let mut peer = server.connect().await;
    peer.send(&[0, 0, 1, 0, 3]).await;
    peer.is_ended_with(2).await;
    // A connection between frames may stay silent.
    let mut peer = server.connect().await;
    tokio::time::sleep(3 * short).await;
    allows(&mut peer).await;
}

#[tokio::test]
async fn panic_of_a_handler_denies_its_question_alone() {
    let server = Server::start(Agent).await;
    let mut peer = server.connect().await;
    let answer = ask_path(&mut peer, "/panic").await;
    assert_eq!(answer.text("action"), Some("deny"));
    assert_eq!(answer.number("status"), Some(500));
    assert_eq!(answer.text("reason"), Some("agent_panicked"));
    allows(&mut peer).await;
}

#[tokio::test]
async fn answers_fit_into_a_frame() {
    let server = Server::start(Agent).await;
    let mut peer = server.connect_with(256).await;
    let ask = async |peer: &mut Peer, path: &str| -> Answer { ask_path(peer, path).await };
    let answer = ask(&mut peer, "/body/100").await;
    assert_eq!(answer.text("body").map(str::len), Some(100));
    let answer = ask(&mut peer, "/body/300").await;
    assert_eq!(
        (answer.number("status"), answer.text("body")),
        (Some(403), None)
    );
    let answer = ask(&mut peer, "/reasons/300").await;
    assert_eq!(
        (answer.number("status"), answer.text("tags")),
        (Some(403), None)
    );
    let answer = ask(&mut peer, "/url/300").await;
    assert_eq!(answer.text("action"), Some("deny"));
    assert_eq!(answer.number("status"), Some(500));
    // A change that cannot be said denies.
    let answer = ask(&mut peer, "/header/300").await;
    assert_eq!(answer.text("action"), Some("deny"));
    assert_eq!(answer.text("reason"), Some("answer_too_large"));
    let answer = ask(&mut peer, "/header/10").await;
    assert_eq!(answer.text("action"), Some("allow"));
}

#[tokio::test]
async fn peer_that_does_not_read_is_not_read_from() {
    let server = Server::start(Agent).await;
    let mut other = server.connect().await;
    let mut peer = server.connect_with(1 << 20).await;
    let arguments = [("path", Value::from("/body/60000"))];
    let question = Question {
        name: "tollgate-req",
        arguments: &arguments,
    };
    let bytes = notify(FrameId::default(), &[question]).repeat(1000);
    // The agent stops reading long before it has produced 60 MB of answers. What the system buffers
    // is less than that.
    let flood = async {
        for _ in 0..1000 {
            peer.send(&bytes).await;
        }
    };
    let flooded = timeout(Duration::from_millis(500), flood).await;
    assert!(flooded.is_err(), "60 GB of answers were produced");
    timeout(DEADLINE, allows(&mut other))
        .await
        .expect("an answer");
}

#[tokio::test]
async fn answers_follow_once_the_peer_reads_again() {
    /// More than the system keeps of a connection.
    const COUNT: usize = 300;
    let server = Server::start(Agent).await;
    let mut peer = server.connect_with(1 << 20).await;
    let arguments = [("path", Value::from("/body/60000"))];
    let question = Question {
        name: "tollgate-req",
        arguments: &arguments,
    };
    peer.send(&notify(FrameId::default(), &[question]).repeat(COUNT))
        .await;
    let answers = async {
        for _ in 0..COUNT {
            let Received::Ack(_, answer) = peer.receive().await else {
                panic!("no answer");
            };
            assert_eq!(answer.text("body").map(str::len), Some(60_000));
        }
        allows(&mut peer).await;
    };
    timeout(DEADLINE, answers).await.expect("all answers");
}

#[tokio::test]
async fn connections_that_hold_most_end_when_memory_is_short() {
    /// Memory for a few connections with a large frame.
    const LIMIT: usize = 3 * 1024 * 1024;
    let settings = SpopSettings::default();
    let server = Server::with(Agent, settings, |server| server.max_memory(LIMIT)).await;
    let mut small = server.connect().await;
    let mut holding = Vec::new();
    for _ in 0..8 {
        let mut peer = server.connect().await;
        // All but the end of a frame.
        let mut begin = 1_000_000u32.to_be_bytes().to_vec();
        begin.resize(900_000, 0);
        // The agent may end the connection before it has read all.
        let _ = peer.stream.write_all(&begin).await;
        holding.push(peer);
    }
    let mut ended = 0;
    for peer in &mut holding {
        let received = timeout(Duration::from_millis(200), peer.receive()).await;
        ended += usize::from(matches!(
            received,
            Ok(Received::Disconnect(13) | Received::End)
        ));
    }
    assert!((4..8).contains(&ended), "{ended} of 8");
    allows(&mut small).await;
}
