//! Clients that break gRPC or the protocol: what they are told, and that others are served.
#![cfg(feature = "grpc")]
#![allow(clippy::unwrap_used, reason = "what fails here fails the test")]

mod common;

use common::http2::{
    CONTROL_STREAM, ClientConnection, PROCESS_EVENT, PROCESS_STREAM, RawStream, Sends, framed,
    grpc_config,
};
use common::proto::{
    Value, bytes, content, find, number, offer_handshake, request, stream_id, text,
};
use common::{
    RuleAgent, ServedAgent, call, eventually, pool_with, result_of, serve_grpc, serve_grpc_with,
};
use h2::Reason;
use std::time::{Duration, Instant};
use tollgate::{Decision, GrpcAgentServer, MetricsReport};

/// What gRPC statuses are called.
const INVALID_ARGUMENT: &str = "3";
const DEADLINE_EXCEEDED: &str = "4";
const RESOURCE_EXHAUSTED: &str = "8";
const UNIMPLEMENTED: &str = "12";
const OK: &str = "0";

async fn serve_with(
    configure: impl FnOnce(GrpcAgentServer<RuleAgent>) -> GrpcAgentServer<RuleAgent>,
) -> ServedAgent {
    serve_grpc_with("grpc://127.0.0.1:0", configure).await
}

async fn connect(agent: &ServedAgent) -> ClientConnection {
    ClientConnection::to(&agent.path).await
}

/// An event is answered on the stream.
async fn expect_answers(stream: &mut RawStream, id: &str) {
    stream.send_message(&request(id, "/block"));
    let answer = content(&stream.expect_message().await, 2);
    assert_eq!(text(&answer, 1), id);
    assert_eq!(find(&content(&answer, 3), 1), Some(Value::Number(403)));
}

/// Whatever else happens, an honest pool is served.
async fn expect_serves(agent: &ServedAgent) {
    let pool = pool_with(grpc_config(), &agent.path).await;
    let answer = result_of(call(&pool, "honest")).await.unwrap();
    assert_eq!(answer.decision, Decision::Allow);
}

/// What a stream comes to on which this is said in the place of a handshake.
async fn refused(agent: &ServedAgent, said: &[u8]) -> (String, String) {
    let mut connection = connect(agent).await;
    let mut opened = connection.open(PROCESS_STREAM).await;
    opened.send_bytes(said.to_vec());
    opened.responded().await.status().await
}

#[tokio::test]
async fn anything_but_a_handshake_in_its_place_ends_the_stream() {
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
        let (status, reason) = refused(&agent, &framed(&message)).await;
        assert_eq!(status, INVALID_ARGUMENT, "{reason}");
        assert!(!reason.is_empty());
    }
    assert!(agent.seen.lock().unwrap().is_empty());
    expect_serves(&agent).await;
}

#[tokio::test]
async fn what_is_no_message_ends_the_stream() {
    let agent = serve_grpc().await;
    let too_large = [&[0], &(10 * 1024 * 1024 + 1_u32).to_be_bytes()[..]].concat();
    for (said, expected) in [
        (b"\x01\0\0\0\x01x".to_vec(), INVALID_ARGUMENT),
        (too_large.clone(), INVALID_ARGUMENT),
    ] {
        assert_eq!(refused(&agent, &said).await.0, expected);
    }
    // The same in the middle of a stream: what came before is answered.
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
async fn another_version_is_refused_in_words() {
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
async fn a_handshake_that_does_not_come_is_given_up() {
    let agent =
        serve_with(|server| server.with_handshake_timeout(Duration::from_millis(100))).await;
    for said in [&b""[..], &framed(&offer_handshake())[..8]] {
        let started = Instant::now();
        let (status, _) = refused(&agent, said).await;
        assert_eq!(status, DEADLINE_EXCEEDED);
        assert!(started.elapsed() < Duration::from_secs(2));
    }
    expect_serves(&agent).await;
}

#[tokio::test]
async fn messages_that_a_proxy_may_not_send_are_passed_over() {
    let agent = serve_grpc().await;
    let mut connection = connect(&agent).await;
    let mut stream = connection.shake_hands().await;
    for message in [
        offer_handshake(),
        vec![],
        bytes(99, "x"),
        b"\xff".to_vec(),
        // Words of the extension, which was not agreed on.
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
async fn an_event_that_does_not_decode_is_blocked_if_it_says_which_it_is() {
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
async fn an_event_that_does_not_even_say_which_it_is_ends_the_stream() {
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
async fn with_the_extension_an_event_without_a_stream_id_ends_the_stream() {
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
async fn a_client_that_has_said_all_gets_its_answers() {
    let agent = serve_grpc().await;
    let mut connection = connect(&agent).await;
    let mut stream = connection.shake_hands().await;
    for n in 0..3 {
        stream.send_message(&request(&format!("c-{n}"), "/wait"));
    }
    stream.end();
    eventually("all are there", async || {
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
async fn a_client_that_has_said_all_and_goes_is_not_waited_for() {
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
        eventually("the event is there", async || {
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
async fn a_stream_that_is_reset_at_any_stage_leaves_nothing_behind() {
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
async fn a_message_cut_short_by_the_end_is_never_seen() {
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

/// Events with large answers on one stream, which nobody reads; the stream is held in the end.
#[tokio::test]
async fn a_client_that_reads_nothing_holds_up_only_its_own_stream() {
    let agent = serve_grpc().await;
    let mut connection = connect(&agent).await;
    let mut deaf = connection.shake_hands().await;
    let mut heard = connection.shake_hands().await;
    // Each answer is as long as its event.
    let chunk = [bytes(1, "c-1"), bytes(3, vec![7; 16_000])].concat();
    let event = framed(&bytes(5, chunk));
    for _ in 0..1000 {
        deaf.send_bytes(event.clone());
    }
    for n in 0..20 {
        expect_answers(&mut heard, &format!("h-{n}")).await;
    }
    expect_serves(&agent).await;
    // Of 16 MB the agent has read what the windows and the bounds on what is not sent hold.
    eventually("the agent reads no more", async || {
        let seen = || agent.seen.lock().unwrap().len();
        let before = seen();
        expect_answers(&mut heard, "still").await;
        before > 10 && seen() == before + 1
    })
    .await;
    assert!(agent.seen.lock().unwrap().len() < 250);
    expect_answers(&mut heard, "last").await;
}

#[tokio::test]
async fn streams_that_do_not_shake_hands_stand_in_nobodys_way() {
    const STREAMS: usize = 50;
    let agent = serve_with(|server| {
        server
            .with_max_connections(STREAMS)
            .with_handshake_timeout(Duration::from_secs(60))
    })
    .await;
    let established = pool_with(grpc_config(), &agent.path).await;
    let mut connection = connect(&agent).await;
    let mut held = Vec::new();
    for n in 0..3 * STREAMS {
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
    let mut turned_away = held.remove(0);
    assert_eq!(turned_away.status().await.0, RESOURCE_EXHAUSTED);
    assert!(agent.control.connections() <= STREAMS + 1);
}

#[tokio::test]
async fn streams_beyond_the_limit_wait_for_a_place() {
    let agent = serve_with(|server| server.with_max_connections(1)).await;
    let mut connection = connect(&agent).await;
    let mut served = connection.shake_hands().await;
    let mut opened = connection.open(PROCESS_STREAM).await;
    opened.send_message(&offer_handshake());
    let mut waiting = opened.responded().await;
    expect_answers(&mut served, "c-1").await;
    served.end();
    assert_eq!(served.status().await.0, OK);
    waiting.expect_message().await;
    expect_answers(&mut waiting, "c-2").await;
}

#[tokio::test]
async fn an_http2_connection_has_no_more_streams_than_are_served_and_shake_hands() {
    let agent = serve_with(|server| server.with_max_connections(3)).await;
    let mut connection = connect(&agent).await;
    let served = connection.shake_hands().await;
    assert_eq!(connection.max_streams(), 6);
    drop(served);
}

#[tokio::test]
async fn control_streams_are_held_as_long_as_the_proxy_wishes_and_not_told_anything() {
    let agent = serve_with(|server| server.with_max_connections(2)).await;
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
    let refused = connection.open(CONTROL_STREAM).await.status().await;
    assert_eq!(refused.0, RESOURCE_EXHAUSTED);
    let mut stream = connection.shake_hands().await;
    expect_answers(&mut stream, "c-1").await;
    let mut first = held.remove(0);
    first.end();
    assert_eq!(first.status().await.0, OK);
    eventually("there is a place", async || {
        let opened = connection.open(CONTROL_STREAM).await;
        opened
            .response()
            .await
            .is_ok_and(|(response, _)| !response.headers().contains_key("grpc-status"))
    })
    .await;
    // A server that stops ends them.
    let stopping = tokio::spawn(agent.stop());
    assert_eq!(held[0].status().await.0, OK);
    drop((stream, held, connection));
    stopping.await.unwrap();
}

/// The status of a call whose message is this.
async fn called(agent: &ServedAgent, said: impl Into<Vec<u8>>) -> (String, String) {
    let mut connection = connect(agent).await;
    let mut opened = connection.open(PROCESS_EVENT).await;
    opened.send_bytes(said.into());
    opened.end();
    opened.status().await
}

#[tokio::test]
async fn a_call_is_answered() {
    let agent = serve_grpc().await;
    let mut connection = connect(&agent).await;
    for (message, field) in [
        (request("c-1", "/block"), 2),
        (offer_handshake(), 1),
        (bytes(11, number(1, 7)), 7),
    ] {
        let mut opened = connection.open(PROCESS_EVENT).await;
        opened.send_message(&message);
        opened.end();
        let mut stream = opened.responded().await;
        find(&stream.expect_message().await, field).expect("an answer");
        assert_eq!(stream.status().await.0, OK);
    }
}

#[tokio::test]
async fn calls_that_make_no_sense_say_what_is_wrong() {
    let agent = serve_with(|server| server.with_max_message_size(4096)).await;
    let event = framed(&request("c-1", "/"));
    for (said, expected) in [
        (vec![], INVALID_ARGUMENT),
        (framed(b""), INVALID_ARGUMENT),
        (framed(b"\xff\xff"), INVALID_ARGUMENT),
        (framed(&bytes(99, "x")), INVALID_ARGUMENT),
        (framed(&bytes(9, bytes(1, "c-1"))), INVALID_ARGUMENT),
        (framed(&bytes(2, [0x0a, 0x7f])), INVALID_ARGUMENT),
        (framed(&bytes(1, [0x0a, 0x7f])), INVALID_ARGUMENT),
        (event[..event.len() - 1].to_vec(), INVALID_ARGUMENT),
        ([&event[..], &event].concat(), INVALID_ARGUMENT),
        ([&event[..], b"\0"].concat(), INVALID_ARGUMENT),
        (
            framed(&request("c-1", &"x".repeat(5000))),
            RESOURCE_EXHAUSTED,
        ),
        (b"\0\xff\xff\xff\xff".to_vec(), RESOURCE_EXHAUSTED),
        (b"\x01\0\0\0\x01x".to_vec(), UNIMPLEMENTED),
    ] {
        let (status, reason) = called(&agent, said.clone()).await;
        assert_eq!(status, expected, "{said:?}: {reason}");
        assert!(!reason.is_empty());
    }
    assert!(agent.seen.lock().unwrap().is_empty());
}

#[tokio::test]
async fn calls_whose_message_does_not_come_stand_in_nobodys_way() {
    let agent = serve_with(|server| {
        server
            .with_max_connections(2)
            .with_handshake_timeout(Duration::from_secs(1))
    })
    .await;
    let mut connection = connect(&agent).await;
    let (mut first, mut second) = (
        connection.open(PROCESS_EVENT).await,
        connection.open(PROCESS_EVENT).await,
    );
    for call in [&mut first, &mut second] {
        call.send_bytes(framed(&request("c-1", "/"))[..9].to_vec());
    }
    let mut third = connection.open(PROCESS_EVENT).await;
    third.send_message(&request("c-3", "/"));
    assert_eq!(first.status().await.0, RESOURCE_EXHAUSTED);
    third.end();
    third.responded().await.expect_message().await;
    assert_eq!(second.status().await.0, DEADLINE_EXCEEDED);
    expect_serves(&agent).await;
}

#[tokio::test]
async fn what_is_not_served_is_unimplemented() {
    let agent = serve_grpc().await;
    let mut connection = connect(&agent).await;
    for path in [
        "/zentinel.agent.v2.AgentServiceV2/Nothing",
        "/zentinel.agent.v2.AgentServiceV2/",
        "/zentinel.agent.v1.AgentService/ProcessStream",
        "/",
    ] {
        let opened = connection.open(path).await;
        assert_eq!(opened.status().await.0, UNIMPLEMENTED, "{path}");
    }
    for content_type in ["application/json", "application/grpc-web", "text/html", ""] {
        for path in [PROCESS_STREAM, PROCESS_EVENT, CONTROL_STREAM] {
            let opened = connection.open_as(path, content_type).await;
            let (response, _) = opened.response().await.unwrap();
            assert_eq!(response.status(), 415, "{content_type}");
        }
    }
    let mut opened = connection
        .open_as(PROCESS_STREAM, "application/grpc+proto")
        .await;
    opened.send_message(&offer_handshake());
    opened.responded().await.expect_message().await;
}
