//! Clients that violate gRPC or the protocol: the errors that they get, and that others are served.
use crate::common::http2::{
    CONTROL_STREAM, ClientConnection, PROCESS_STREAM, RawStream, SendHalf, framed, grpc_config,
};
use crate::common::proto::{
    Value, bytes, content, find, number, offer_handshake, request, stream_id, text,
};
use crate::common::{
    RuleAgent, ServedAgent, call, eventually, pool_with, result_of, serve_at, serve_grpc,
};
use h2::Reason;
use std::time::{Duration, Instant};
use tollgate::{AgentServerBuilder, Decision, control::MetricsReport};

pub(crate) const INVALID_ARGUMENT: &str = "3";
pub(crate) const DEADLINE_EXCEEDED: &str = "4";
pub(crate) const RESOURCE_EXHAUSTED: &str = "8";
pub(crate) const UNIMPLEMENTED: &str = "12";
pub(crate) const OK: &str = "0";

pub(crate) async fn serve_with(
    configure: impl FnOnce(AgentServerBuilder<RuleAgent>) -> AgentServerBuilder<RuleAgent>,
) -> ServedAgent {
    serve_at("grpc://127.0.0.1:0", configure).await
}

pub(crate) async fn connect(agent: &ServedAgent) -> ClientConnection {
    ClientConnection::to(&agent.path).await
}

/// Asserts that an event is answered on the stream.
async fn expect_answers(stream: &mut RawStream, id: &str) {
    stream.send_message(&request(id, "/block"));
    let answer = content(&stream.expect_message().await, 2);
    assert_eq!(text(&answer, 1), id);
    assert_eq!(find(&content(&answer, 3), 1), Some(Value::Number(403)));
}

/// Asserts that an honest pool is served.
pub(crate) async fn expect_serves(agent: &ServedAgent) {
    let pool = pool_with(grpc_config(), &agent.path).await;
    let answer = result_of(call(&pool, "honest")).await.unwrap();
    assert_eq!(answer.decision, Decision::Allow);
}

/// Opens a stream with these bytes in place of a handshake. Returns its gRPC status and message.
async fn rejected(agent: &ServedAgent, said: &[u8]) -> (String, String) {
    let mut connection = connect(agent).await;
    let mut opened = connection.open(PROCESS_STREAM).await;
    opened.send_bytes(said.to_vec());
    opened.responded().await.status().await
}

#[tokio::test]
async fn invalid_handshake_ends_the_stream() {
    let agent = serve_grpc().await;

    for message in [
        request("c-1", "/"),
        bytes(11, number(1, 7)),
        bytes(99, "unknown"),
        vec![],
        b"\xff\xff\xff".to_vec(),
        bytes(1, [0x0a, 0x7f]),
        bytes(1, [0x0b, 0x0c]),
        number(1, 7),
        [offer_handshake(), offer_handshake()].concat(),
        bytes(1, bytes(4, vec![b'x'; 100_000])),
    ] {
        let (status, reason) = rejected(&agent, &framed(&message)).await;
        assert_eq!(status, INVALID_ARGUMENT, "{reason}");
        assert!(!reason.is_empty());
    }

    assert!(agent.seen.lock().unwrap().is_empty());
    expect_serves(&agent).await;
}

#[tokio::test]
async fn invalid_grpc_message_ends_the_stream() {
    let agent = serve_grpc().await;
    let too_large = [&[0], &(10 * 1024 * 1024 + 1_u32).to_be_bytes()[..]].concat();

    for (said, expected) in [
        (b"\x01\0\0\0\x01x".to_vec(), INVALID_ARGUMENT),
        (too_large.clone(), INVALID_ARGUMENT),
    ] {
        assert_eq!(rejected(&agent, &said).await.0, expected);
    }
    // In the middle of a stream, the events before are still answered.
    for (said, expected) in [
        (b"\x01\0\0\0\x01x".to_vec(), INVALID_ARGUMENT),
        (too_large, RESOURCE_EXHAUSTED),
        (b"\0\xff\xff\xff\xff".to_vec(), RESOURCE_EXHAUSTED),
    ] {
        let mut connection = connect(&agent).await;

        let mut stream = connection.shake_hands().await;
        let mut all = framed(&request("c-1", "/"));
        all.extend(said);
        stream.send_bytes(all);

        let answer = content(&stream.expect_message().await, 2);
        assert_eq!(text(&answer, 1), "c-1");
        assert_eq!(stream.status().await.0, expected);

        let mut other = connection.shake_hands().await;
        expect_answers(&mut other, "c-2").await;
    }
}

#[tokio::test]
async fn unsupported_version_is_rejected_with_a_reason() {
    let agent = serve_grpc().await;
    let mut connection = connect(&agent).await;
    let mut opened = connection.open(PROCESS_STREAM).await;
    opened.send_message(&bytes(1, [bytes(1, [3]), bytes(2, "raw")].concat()));
    let mut stream = opened.responded().await;

    let response = content(&stream.expect_message().await, 1);
    assert_eq!(find(&response, 3), None, "success");
    assert!(text(&response, 4).contains("version 2"));
    assert_eq!(stream.status().await.0, INVALID_ARGUMENT);
}

#[tokio::test]
async fn missing_handshake_times_out() {
    let agent = serve_with(|server| server.handshake_timeout(Duration::from_millis(100))).await;
    for said in [&b""[..], &framed(&offer_handshake())[..8]] {
        let started = Instant::now();
        let (status, _) = rejected(&agent, said).await;
        assert_eq!(status, DEADLINE_EXCEEDED);
        assert!(started.elapsed() < Duration::from_secs(2));
    }
    expect_serves(&agent).await;
}

#[tokio::test]
async fn unexpected_messages_of_a_proxy_are_ignored() {
    let agent = serve_grpc().await;
    let mut connection = connect(&agent).await;
    let mut stream = connection.shake_hands().await;

    for message in [
        offer_handshake(),
        vec![],
        bytes(99, "x"),
        b"\xff".to_vec(),
        // Messages of the extension, which was not negotiated.
        bytes(1001, bytes(1, "r")),
        bytes(1002, number(1, 1)),
        bytes(1003, number(2, 2)),
        bytes(9, [0xff]),
        bytes(9, number(1, 7)),
        bytes(11, [0x0a, 0x7f]),
    ] {
        stream.send_message(&message);
    }

    expect_answers(&mut stream, "c-1").await;
}

#[tokio::test]
async fn undecodable_event_with_an_id_is_blocked() {
    let agent = serve_grpc().await;
    let mut connection = connect(&agent).await;
    let mut stream = connection.shake_hands().await;

    let metadata = bytes(1, bytes(1, "c-1"));
    let with = |damage: &[u8]| bytes(2, [&metadata[..], damage].concat());
    let damaged = [
        with(&[0x10, 0xff]),
        with(&[0x2a, 0x7f]),
        with(&number(2, 1)),
        with(&bytes(2, b"\xff")),
        with(&[0x0b, 0x0c]),
        with(&bytes(5, number(1, 1))),
        bytes(2, bytes(1, [bytes(1, "c-1"), number(4, 70_000)].concat())),
        bytes(6, [bytes(1, "c-1"), number(3, 99)].concat()),
        bytes(7, [bytes(1, "c-1"), bytes(1000, "telepathy")].concat()),
        bytes(10, [bytes(1000, "c-1"), bytes(1, "{")].concat()),
    ];

    for event in damaged {
        stream.send_message(&event);
        let answer = content(&stream.expect_message().await, 2);
        assert_eq!(text(&answer, 1), "c-1");
        assert_eq!(find(&content(&answer, 3), 1), Some(Value::Number(500)));
    }

    expect_answers(&mut stream, "c-2").await;
    assert_eq!(agent.seen.lock().unwrap().len(), 1);
}

#[tokio::test]
async fn undecodable_event_without_an_id_ends_the_stream() {
    let agent = serve_grpc().await;

    for event in [
        bytes(2, []),
        bytes(2, [0x0a, 0x7f]),
        bytes(3, bytes(1, b"\xff")),
        bytes(8, number(1, 1)),
        number(3, 1),
        [request("c-1", "/"), request("c-2", "/")].concat(),
    ] {
        let mut connection = connect(&agent).await;
        let mut stream = connection.shake_hands().await;
        expect_answers(&mut stream, "before").await;
        stream.send_message(&event);
        let (status, reason) = stream.status().await;
        assert_eq!(status, INVALID_ARGUMENT, "{reason}");
    }

    expect_serves(&agent).await;
}

#[tokio::test]
async fn extended_event_without_a_stream_id_ends_the_stream() {
    let agent = serve_grpc().await;
    let extended = [bytes(1, [2]), bytes(2, "raw"), bytes(1000, [1])].concat();

    let on_stream = |message: &[u8]| [&stream_id(7), message].concat();
    for (event, is_answered) in [
        (on_stream(&request("c-1", "/block")), true),
        (on_stream(&bytes(2, [0x0a, 0x7f])), true),
        (request("c-1", "/block"), false),
        ([number(1000, 7), request("c-1", "/block")].concat(), false),
    ] {
        let mut connection = connect(&agent).await;
        let mut opened = connection.open(PROCESS_STREAM).await;
        opened.send_message(&bytes(1, &extended));
        let mut stream = opened.responded().await;
        let response = content(&stream.expect_message().await, 1);
        assert_eq!(find(&response, 1000), Some(Value::Number(1)));

        stream.send_message(&event);
        stream.end();

        if is_answered {
            let answer = stream.expect_message().await;
            assert_eq!(find(&answer, 1000), Some(Value::Number(7)));
            find(&content(&answer, 2), 3).expect("a block");
            assert_eq!(stream.status().await.0, OK);
        } else {
            assert_eq!(stream.status().await.0, INVALID_ARGUMENT);
        }
    }
}

#[tokio::test]
async fn half_closed_client_still_gets_its_answers() {
    let agent = serve_grpc().await;
    let mut connection = connect(&agent).await;
    let mut stream = connection.shake_hands().await;

    for n in 0..3 {
        stream.send_message(&request(&format!("c-{n}"), "/wait"));
    }
    stream.end();
    eventually("all events have arrived", async || {
        agent.seen.lock().unwrap().len() == 3
    })
    .await;

    for n in 0..3 {
        agent.release.notify_one();
        let answer = content(&stream.expect_message().await, 2);
        assert_eq!(text(&answer, 1), format!("c-{n}"));
    }

    assert_eq!(stream.status().await.0, OK);
    eventually("the session is over", async || {
        agent.control.connections() == 0
    })
    .await;
}

#[tokio::test]
async fn session_ends_when_a_half_closed_client_leaves() {
    let agent = serve_grpc().await;
    for leave in [
        (|stream, _| drop(stream)) as fn(RawStream, ClientConnection),
        |mut stream, _| stream.reset(Reason::CANCEL),
        |_, connection| drop(connection),
    ] {
        let mut connection = connect(&agent).await;
        let mut stream = connection.shake_hands().await;
        agent.seen.lock().unwrap().clear();
        stream.send_message(&request("c-1", "/wait"));
        stream.end();

        eventually("the event has arrived", async || {
            agent.seen.lock().unwrap().len() == 1
        })
        .await;

        leave(stream, connection);
        eventually("the session is over", async || {
            agent.control.connections() == 0
        })
        .await;
    }
}

#[tokio::test]
async fn reset_at_any_stage_ends_the_session() {
    let agent = serve_grpc().await;
    let mut connection = connect(&agent).await;
    for stage in 0..5 {
        let mut opened = connection.open(PROCESS_STREAM).await;
        if stage == 0 {
            opened.reset(Reason::CANCEL);
            continue;
        }
        let handshake = framed(&offer_handshake());
        if stage == 1 {
            opened.send_bytes(handshake[..7].to_vec());
            opened.responded().await.reset(Reason::INTERNAL_ERROR);
            continue;
        }
        opened.send_bytes(handshake);

        let mut stream = opened.responded().await;
        stream.expect_message().await;
        if stage > 2 {
            stream.send_message(&request("c-1", "/wait"));
        }
        if stage > 3 {
            let event = framed(&request("c-2", "/"));
            stream.send_bytes(event[..event.len() / 2].to_vec());
        }
        stream.reset(Reason::CANCEL);
    }

    eventually("all sessions are over", async || {
        agent.control.connections() == 0
    })
    .await;

    let mut stream = connection.shake_hands().await;
    expect_answers(&mut stream, "c-3").await;
}

#[tokio::test]
async fn truncated_message_is_never_seen() {
    let agent = serve_grpc().await;
    let event = framed(&request("c-1", "/"));

    for kept in [1, 5, event.len() - 1] {
        let mut connection = connect(&agent).await;
        let mut stream = connection.shake_hands().await;
        stream.send_bytes(event[..kept].to_vec());
        stream.end();
        assert_eq!(stream.status().await.0, INVALID_ARGUMENT);
    }

    assert!(agent.seen.lock().unwrap().is_empty());
}

/// Sends events with large answers on one stream and never reads it. Its events stop being read.
#[tokio::test]
async fn client_that_does_not_read_delays_only_its_own_stream() {
    let agent = serve_grpc().await;
    let mut connection = connect(&agent).await;
    let mut unread = connection.shake_hands().await;
    let mut read = connection.shake_hands().await;

    // Each answer is as long as its event.
    let chunk = [bytes(1, "c-1"), bytes(3, vec![7; 16_000])].concat();
    let event = framed(&bytes(5, chunk));
    for _ in 0..1000 {
        unread.send_bytes(event.clone());
    }

    for n in 0..20 {
        expect_answers(&mut read, &format!("h-{n}")).await;
    }
    expect_serves(&agent).await;

    // The agent reads no more of the 16 MB than the windows and its send limits hold.
    eventually("the agent reads no more", async || {
        let seen = || agent.seen.lock().unwrap().len();
        let before = seen();
        expect_answers(&mut read, "still").await;
        before > 10 && seen() == before + 1
    })
    .await;
    assert!(agent.seen.lock().unwrap().len() < 250);
    expect_answers(&mut read, "last").await;
}

#[tokio::test]
async fn streams_without_a_handshake_do_not_block_others() {
    const STREAMS: usize = 50;
    let agent = serve_with(|server| {
        server
            .max_connections(STREAMS)
            .handshake_timeout(Duration::from_secs(60))
    })
    .await;

    let established = pool_with(grpc_config(), &agent.path).await;
    let mut connections = Vec::new();
    let mut held = Vec::new();
    for n in 0..3 * STREAMS {
        if n % 16 == 0 {
            connections.push(connect(&agent).await);
        }
        let connection = connections.last_mut().unwrap();
        let mut opened = connection.open(PROCESS_STREAM).await;
        if n % 2 == 0 {
            opened.send_bytes(framed(&offer_handshake())[..6].to_vec());
        }
        held.push(opened.responded().await);
    }

    let started = Instant::now();
    expect_serves(&agent).await;
    assert!(started.elapsed() < Duration::from_secs(1));
    result_of(call(&established, "c-1")).await.unwrap();

    let mut rejected = held.remove(0);
    assert_eq!(rejected.status().await.0, RESOURCE_EXHAUSTED);
    assert!(agent.control.connections() <= STREAMS + 1);
}

#[tokio::test]
async fn streams_beyond_the_limit_wait_for_a_free_one() {
    let agent = serve_with(|server| server.max_connections(1)).await;
    let mut connection = connect(&agent).await;

    let mut served = connection.shake_hands().await;
    expect_answers(&mut served, "c-1").await;
    let mut opened = connection.open(PROCESS_STREAM).await;
    opened.send_message(&offer_handshake());
    let mut waiting = opened.responded().await;

    expect_answers(&mut served, "c-2").await;
    served.end();
    assert_eq!(served.status().await.0, OK);

    waiting.expect_message().await;
    expect_answers(&mut waiting, "c-3").await;
}

#[tokio::test]
async fn http2_stream_limit_follows_the_connection_limit() {
    for (max_connections, max_streams) in [(3, 16), (128, 16), (1024, 128)] {
        let agent = serve_with(|server| server.max_connections(max_connections)).await;
        let mut connection = connect(&agent).await;
        let served = connection.shake_hands().await;
        assert_eq!(connection.max_streams(), max_streams);
        drop(served);
    }
}

#[tokio::test]
async fn control_streams_stay_open_silently_and_are_limited() {
    let agent = serve_with(|server| server.max_connections(2)).await;
    let mut connection = connect(&agent).await;

    let mut held = Vec::new();
    for _ in 0..2 {
        let mut opened = connection.open(CONTROL_STREAM).await;
        opened.send_message(&bytes(1, number(2, 1)));
        opened.send_bytes(b"garbage".to_vec());
        held.push(opened.responded().await);
    }

    assert_eq!(agent.control.connections(), 0);
    for _ in 0..200 {
        agent.control.report_metrics(MetricsReport::new("a", 1));
    }
    let rejected = connection.open(CONTROL_STREAM).await.status().await;
    assert_eq!(rejected.0, RESOURCE_EXHAUSTED);

    let mut stream = connection.shake_hands().await;
    expect_answers(&mut stream, "c-1").await;
    let mut first = held.remove(0);
    first.end();
    assert_eq!(first.status().await.0, OK);

    eventually("a control stream is free", async || {
        let opened = connection.open(CONTROL_STREAM).await;
        opened
            .response()
            .await
            .is_ok_and(|(response, _)| !response.headers().contains_key("grpc-status"))
    })
    .await;
    // A server that stops ends the control streams.
    let stopping = tokio::spawn(agent.stop());
    assert_eq!(held[0].status().await.0, OK);
    drop((stream, held, connection));
    stopping.await.unwrap();
}
