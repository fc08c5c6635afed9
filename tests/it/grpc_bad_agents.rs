//! Servers that violate gRPC or the protocol: the errors of their calls, and the pool's recovery.
use crate::common::http2::{
    RawServer, RawStream, SendHalf, framed, grpc_config, raw_grpc_pool, raw_grpc_pool_with,
};
use crate::common::proto::{
    Value, accept_handshake, allowing, blocking, bytes, find, id_of_request, number, stream_id,
    varint,
};
use crate::common::{Call, call, eventually, faults, result_of, serve_grpc, status_of};
use h2::Reason;
use http::Response;
use std::time::{Duration, Instant};
use tollgate::{
    AddError, AgentConfig, AgentPool, CallError as Error, ConnectError,
    events::RequestBodyChunkEvent,
};

/// Time within which calls must fail once their stream has ended.
const SOON: Duration = Duration::from_secs(1);

/// Begins a call and waits until its event has arrived.
async fn arrived(pool: &AgentPool, stream: &mut RawStream, id: &str) -> Call {
    let call = call(pool, id);
    assert_eq!(stream.event().await, id);
    call
}

/// Asserts that the stream works, with one call.
async fn expect_works(pool: &AgentPool, stream: &mut RawStream, id: &str) {
    let call = arrived(pool, stream, id).await;
    stream.block(id, 499);
    assert_eq!(status_of(call).await, 499);
}

/// Asserts that the pool opens a new connection, and that calls are answered on it.
async fn expect_reconnects(agent: &RawServer, pool: &AgentPool) {
    let (_connection, mut stream) = agent.accept_handshake().await;
    eventually("the pool is connected again", async || {
        pool.agent("agent").is_some_and(|agent| agent.is_healthy())
    })
    .await;
    expect_works(pool, &mut stream, "afterwards").await;
}

/// Returns the error of connecting to a server that runs `behave`.
async fn connect_error(behave: impl AsyncFnOnce(&RawServer)) -> ConnectError {
    let agent = RawServer::listen().await;
    let pool = AgentPool::with_config(grpc_config().connect_timeout(Duration::from_millis(500)));
    let started = Instant::now();
    let (connected, ()) = tokio::join!(
        pool.add(AgentConfig::new("agent", &*agent.endpoint).require_connection()),
        behave(&agent)
    );
    assert!(started.elapsed() < SOON);
    match connected {
        Err(AddError::Connect { source, .. }) => source,
        other => panic!("{other:?}"),
    }
}

/// Returns the error of connecting to a server that answers the handshake with these messages.
async fn connect_error_after(messages: &[Vec<u8>]) -> ConnectError {
    connect_error(async |agent: &RawServer| {
        let (connection, incoming) = agent.accept_stream().await;
        let mut stream = incoming.respond();
        stream.expect_message().await;
        for message in messages {
            stream.send_message(message);
        }
        connection.closed().await;
    })
    .await
}

#[tokio::test]
async fn stream_reset_before_the_handshake_fails_to_connect() {
    let before_the_response = connect_error(async |agent: &RawServer| {
        let (connection, incoming) = agent.accept_stream().await;
        incoming.reset(Reason::REFUSED_STREAM);
        connection.closed().await;
    });
    let before_the_handshake = connect_error(async |agent: &RawServer| {
        let (connection, incoming) = agent.accept_stream().await;
        incoming.respond().reset(Reason::ENHANCE_YOUR_CALM);
        connection.closed().await;
    });

    for (error, expected) in [
        (before_the_response.await, "Unavailable"),
        (before_the_handshake.await, "ResourceExhausted"),
    ] {
        let ConnectError::Rpc { status, .. } = &error else {
            panic!("{error:?}");
        };
        assert_eq!(status, expected, "{error}");
    }
}

#[tokio::test]
async fn goaway_before_the_handshake_fails_to_connect() {
    for stage in 0..3 {
        let error = connect_error(async |agent: &RawServer| {
            let mut connection = agent.accept().await;
            if stage > 0 {
                let incoming = connection.next_stream().await;
                if stage > 1 {
                    incoming.respond();
                }
            }
            connection.go_away_because(Reason::INTERNAL_ERROR);
            connection.closed().await;
        })
        .await;
        assert!(matches!(error, ConnectError::Rpc { .. }), "{error:?}");
    }
}

#[tokio::test]
async fn stream_end_before_the_handshake_reports_the_status() {
    let ended = |status: u16| {
        connect_error(async move |agent: &RawServer| {
            let (connection, incoming) = agent.accept_stream().await;
            incoming.respond().end_with(status);
            connection.closed().await;
        })
    };

    let without_a_reason = ended(0).await;
    assert!(
        matches!(without_a_reason, ConnectError::ClosedDuringHandshake),
        "{without_a_reason:?}"
    );

    let ConnectError::Rpc { status, message } = ended(16).await else {
        panic!("another error");
    };
    assert_eq!((&*status, &*message), ("Unauthenticated", "so be it"));
}

#[tokio::test]
async fn response_that_is_not_grpc_reports_the_http_status() {
    let html = || Response::builder().header("content-type", "text/html");
    let bare = || Response::builder();
    for (response, expected) in [
        (html(), "200"),
        (html().status(404), "404"),
        (bare().status(502), "502"),
        (bare().status(301).header("location", "/"), "301"),
    ] {
        let error = connect_error(async |agent: &RawServer| {
            let (connection, incoming) = agent.accept_stream().await;
            let _stream = incoming.respond_with(response);
            connection.closed().await;
        })
        .await;
        let ConnectError::Rpc { message, .. } = &error else {
            panic!("{error:?}");
        };
        assert!(message.contains(expected), "{message}");
    }
}

#[tokio::test]
async fn rejected_handshake_reports_the_reason() {
    let rejection = bytes(1, [number(1, 2), bytes(4, "come back later")].concat());
    let rejected = connect_error_after(&[rejection]).await;
    assert!(
        matches!(&rejected, ConnectError::HandshakeRefused(reason) if reason == "come back later"),
        "{rejected:?}"
    );

    let silent = connect_error_after(&[bytes(1, number(1, 2))]).await;
    assert!(
        matches!(silent, ConnectError::HandshakeRefused(_)),
        "{silent:?}"
    );
}

#[tokio::test]
async fn unsupported_version_is_rejected() {
    let response = bytes(1, [number(1, 3), number(3, 1)].concat());
    let rejected = connect_error_after(&[response]).await;
    assert!(
        matches!(
            rejected,
            ConnectError::VersionMismatch {
                expected: 2,
                actual: 3
            }
        ),
        "{rejected:?}"
    );

    let extension = connect_error_after(&[accept_handshake(Some(7))]).await;
    assert!(
        matches!(extension, ConnectError::ExtensionNotOffered),
        "{extension:?}"
    );
}

#[tokio::test]
async fn missing_handshake_times_out() {
    let silent = connect_error_after(&[]).await;
    assert!(matches!(silent, ConnectError::TimedOut(_)), "{silent:?}");

    let without_response = connect_error(async |agent: &RawServer| {
        let (connection, incoming) = agent.accept_stream().await;
        connection.closed().await;
        drop(incoming);
    })
    .await;
    assert!(
        matches!(without_response, ConnectError::TimedOut(_)),
        "{without_response:?}"
    );
}

#[tokio::test]
async fn invalid_handshake_is_rejected() {
    let large = bytes(1, bytes(4, vec![b'x'; 100_000]));
    for message in [
        allowing("c-1"),
        bytes(7, number(1, 1)),
        bytes(1000, "unknown"),
        vec![],
        b"\xff\xff\xff".to_vec(),
        bytes(1, b"\x0a\xff"),
        number(1, 7),
        [accept_handshake(None), accept_handshake(None)].concat(),
        large,
    ] {
        let error = connect_error_after(std::slice::from_ref(&message)).await;
        assert!(
            matches!(error, ConnectError::InvalidHandshake(_)),
            "{error:?}"
        );
    }
}

#[tokio::test]
async fn stream_reset_fails_its_calls_at_once() {
    for reason in [Reason::CANCEL, Reason::INTERNAL_ERROR, Reason::NO_ERROR] {
        let (agent, pool, _connection, mut stream) = raw_grpc_pool(grpc_config()).await;
        let mut calls = Vec::new();
        for n in 0..10 {
            calls.push(arrived(&pool, &mut stream, &n.to_string()).await);
        }

        stream.reset(reason);
        let started = Instant::now();
        for call in calls {
            assert_fails!(result_of(call).await, Error::ConnectionClosed { .. });
        }
        assert!(started.elapsed() < SOON);

        expect_reconnects(&agent, &pool).await;
        assert_eq!(faults(&pool).await.connections_lost, 1);
    }
}

#[tokio::test]
async fn stream_end_fails_unanswered_calls() {
    for status in [0, 8, 14] {
        let (agent, pool, _connection, mut stream) = raw_grpc_pool(grpc_config()).await;
        let answered = arrived(&pool, &mut stream, "c-1").await;
        let pending = arrived(&pool, &mut stream, "c-2").await;

        stream.block("c-1", 418);
        stream.end_with(status);
        let started = Instant::now();
        assert_eq!(status_of(answered).await, 418);
        assert_fails!(result_of(pending).await, Error::ConnectionClosed { .. });
        assert!(started.elapsed() < SOON);

        expect_reconnects(&agent, &pool).await;
        assert_eq!(faults(&pool).await.connections_lost, 1);
    }
}

#[tokio::test]
async fn killed_server_fails_its_calls_at_once() {
    let (agent, pool, connection, mut stream) = raw_grpc_pool(grpc_config()).await;
    let pending = arrived(&pool, &mut stream, "c-1").await;
    connection.kill();
    drop(stream);
    assert_fails!(result_of(pending).await, Error::ConnectionClosed { .. });
    expect_reconnects(&agent, &pool).await;
}

#[tokio::test]
async fn goaway_with_an_error_fails_calls_at_once() {
    let (agent, pool, connection, mut stream) = raw_grpc_pool(grpc_config()).await;
    let pending = arrived(&pool, &mut stream, "c-1").await;
    connection.go_away_because(Reason::ENHANCE_YOUR_CALM);
    let started = Instant::now();
    assert_fails!(result_of(pending).await, Error::ConnectionClosed { .. });
    assert!(started.elapsed() < SOON);
    expect_reconnects(&agent, &pool).await;
}

#[tokio::test]
async fn unmatched_answers_are_counted_and_dropped() {
    let (_agent, pool, _connection, mut stream) = raw_grpc_pool(grpc_config()).await;
    let pending = arrived(&pool, &mut stream, "c-1").await;

    stream.send_message(&allowing("unknown"));
    stream.send_message(&bytes(2, bytes(2, [])));
    stream.send_message(&allowing(""));
    stream.block("c-1", 418);
    stream.block("c-1", 419);

    assert_eq!(status_of(pending).await, 418);
    expect_works(&pool, &mut stream, "c-2").await;

    let faults = faults(&pool).await;
    assert_eq!(
        (faults.unmatched_answers, faults.undecodable_answers),
        (3, 1)
    );
}

#[tokio::test]
async fn answers_on_unknown_streams_are_counted_and_dropped() {
    let answering = accept_handshake(Some(1));
    let (_agent, pool, _connection, mut stream) =
        raw_grpc_pool_with(grpc_config(), &answering).await;
    let pending = call(&pool, "c-1");
    let event = stream.expect_message().await;
    assert_eq!(id_of_request(&event), "c-1");
    let Some(Value::Number(id)) = find(&event, 1000) else {
        panic!("no stream id");
    };
    let on = |id: u64, message: Vec<u8>| [stream_id(id), message].concat();

    stream.send_message(&on(id ^ 1, allowing("c-1")));
    stream.send_message(&on(u64::MAX, allowing("c-1")));
    // An answer without a stream id matches no call, whatever its correlation id.
    stream.send_message(&allowing("c-1"));
    stream.send_message(&on(id, blocking("", 418)));
    stream.send_message(&on(id, blocking("", 419)));

    assert_eq!(status_of(pending).await, 418);
    eventually("all answers are counted", async || {
        let faults = faults(&pool).await;
        let unwanted = faults.unmatched_answers + faults.late_answers;
        (unwanted, faults.undecodable_answers) == (3, 1)
    })
    .await;
}

/// Returns answers that do not decode, but whose correlation id comes before the damage.
fn broken_answers(id: &str) -> Vec<Vec<u8>> {
    let id = bytes(1, id);
    let with = |damage: &[u8]| bytes(2, [&id[..], damage].concat());
    vec![
        // No decision.
        with(b""),
        // Two decisions.
        with(&[bytes(2, []), bytes(3, number(1, 403))].concat()),
        // A number that does not end, one that is too long, and a field that does not exist.
        with(&[0x70, 0xff]),
        with(&[&[0x70][..], &[0xff; 10], &[1]].concat()),
        with(&[0x00, 0x00]),
        // A message that is longer than the message around it.
        with(&[0x12, 0x7f]),
        // A decision that is a number, fixed bytes, or the ends of a group.
        with(&number(2, 1)),
        with(&[0x15, 0, 0, 0, 0]),
        with(&[0x13, 0x14]),
        // Text that is not UTF-8, and an invalid status.
        with(&bytes(4, bytes(1, b"\xff"))),
        with(&bytes(3, number(1, 1 << 40))),
        with(&[bytes(2, []), bytes(10, number(1, 1))].concat()),
        with(&[bytes(2, []), bytes(10, [])].concat()),
    ]
}

#[tokio::test]
async fn undecodable_answer_fails_its_call() {
    let (_agent, pool, _connection, mut stream) = raw_grpc_pool(grpc_config()).await;
    let count = broken_answers("").len();

    for n in 0..count {
        let id = format!("c-{n}");
        let pending = arrived(&pool, &mut stream, &id).await;
        let answer = &broken_answers(&id)[n];
        stream.send_message(answer);
        assert_fails!(result_of(pending).await, Error::InvalidMessage { .. });
    }

    assert_eq!(faults(&pool).await.undecodable_answers, count as u64);
    expect_works(&pool, &mut stream, "after").await;
}

#[tokio::test]
async fn undecodable_answer_fails_the_call_of_its_stream() {
    let answering = accept_handshake(Some(1));
    let (_agent, pool, _connection, mut stream) =
        raw_grpc_pool_with(grpc_config(), &answering).await;
    for answer in broken_answers("c-other") {
        let pending = call(&pool, "c-1");
        let event = stream.expect_message().await;
        let Some(Value::Number(id)) = find(&event, 1000) else {
            panic!("no stream id");
        };
        stream.send_message(&[stream_id(id), answer].concat());
        assert_fails!(result_of(pending).await, Error::InvalidMessage { .. });
    }
}

#[tokio::test]
async fn undecodable_answer_without_an_id_leaves_a_timeout() {
    let deadline = Duration::from_millis(100);
    let config = grpc_config().request_timeout(deadline);
    let (_agent, pool, _connection, mut stream) = raw_grpc_pool(config).await;

    let garbage = [
        // The id comes after the damage.
        [&[0x12], &varint(1 << 40)[..]].concat(),
        bytes(2, [0x0a, 0x7f]),
        bytes(2, bytes(1, b"\xff\xfe")),
        bytes(2, number(1, 7)),
        number(2, 1),
    ];

    for (n, garbage) in garbage.iter().enumerate() {
        let id = format!("c-{n}");
        let pending = arrived(&pool, &mut stream, &id).await;
        stream.send_message(garbage);
        let started = Instant::now();
        assert_fails!(result_of(pending).await, Error::Timeout { .. });
        assert!(started.elapsed() < SOON);
    }

    let faults = faults(&pool).await;
    assert_eq!(
        (faults.unexpected_messages, faults.undecodable_answers),
        (1, garbage.len() as u64 - 1)
    );
    expect_works(&pool, &mut stream, "after").await;
}

#[tokio::test]
async fn unknown_messages_are_counted_and_ignored() {
    let (_agent, pool, _connection, mut stream) = raw_grpc_pool(grpc_config()).await;
    let unknown = [
        vec![],
        bytes(99, "x"),
        bytes(2000, []),
        b"\xff\xff".to_vec(),
        accept_handshake(None),
        // A log line, which needs the extension.
        bytes(8, [number(1, 2), bytes(2, "forged")].concat()),
    ];

    for message in &unknown {
        stream.send_message(message);
    }

    expect_works(&pool, &mut stream, "c-1").await;
    let faults = faults(&pool).await;
    assert_eq!(faults.unexpected_messages, unknown.len() as u64);
}

#[tokio::test]
async fn undecodable_control_messages_are_counted_and_ignored() {
    let (_agent, pool, _connection, mut stream) = raw_grpc_pool(grpc_config()).await;
    let garbage = [
        bytes(3, [0xff]),
        bytes(3, number(2, 9)),
        bytes(4, bytes(4, [0x0a, 0x7f])),
        bytes(5, []),
        bytes(5, bytes(11, bytes(2, bytes(3, "{")))),
        bytes(6, number(2, 9)),
        bytes(6, [0x0b, 0x0c]),
        bytes(7, [0x08]),
    ];

    for message in &garbage {
        stream.send_message(message);
    }

    expect_works(&pool, &mut stream, "c-1").await;
    let faults = faults(&pool).await;
    assert_eq!(faults.undecodable_messages, garbage.len() as u64);
}

#[tokio::test]
async fn invalid_grpc_message_ends_the_stream_at_once() {
    let no_messages = [
        // Compressed, longer than the limit, and longer than any message.
        b"\x01\0\0\0\x01x".to_vec(),
        [&[0], &(10 * 1024 * 1024 + 1_u32).to_be_bytes()[..]].concat(),
        b"\0\xff\xff\xff\xff".to_vec(),
    ];
    for bytes in no_messages {
        let (agent, pool, _connection, mut stream) = raw_grpc_pool(grpc_config()).await;
        let answered = arrived(&pool, &mut stream, "c-1").await;
        let pending = arrived(&pool, &mut stream, "c-2").await;

        let answer = framed(&blocking("c-1", 418));
        stream.send_bytes([answer, bytes].concat());
        let started = Instant::now();
        assert_eq!(status_of(answered).await, 418);
        assert_fails!(result_of(pending).await, Error::ConnectionClosed { .. });
        assert!(started.elapsed() < SOON);

        expect_reconnects(&agent, &pool).await;
        let faults = faults(&pool).await;
        assert_eq!((faults.connections_lost, faults.invalid_frames), (1, 1));
    }
}

#[tokio::test]
async fn truncated_answer_completes_no_call() {
    let answer = framed(&allowing("c-1"));
    for kept in [1, 4, 5, answer.len() - 1] {
        let (agent, pool, _connection, mut stream) = raw_grpc_pool(grpc_config()).await;

        let pending = arrived(&pool, &mut stream, "c-1").await;
        stream.send_bytes(answer[..kept].to_vec());
        stream.end_with(0);
        assert_fails!(result_of(pending).await, Error::ConnectionClosed { .. });

        expect_reconnects(&agent, &pool).await;
        let faults = faults(&pool).await;
        assert_eq!((faults.connections_lost, faults.invalid_frames), (1, 0));
    }
}

#[tokio::test]
async fn server_that_does_not_read_delays_no_other_agent() {
    let deadline = Duration::from_millis(200);
    let config = grpc_config().request_timeout(deadline);
    let (_agent, pool, _connection, mut stream) = raw_grpc_pool(config).await;
    let other = serve_grpc().await;
    pool.add(AgentConfig::new("other", other.path.to_str().unwrap()))
        .await
        .unwrap();

    // Far more than the windows, the pipe and the send queue hold.
    let calls: Vec<_> = (0..80)
        .map(|n| {
            let pool = pool.clone();
            tokio::spawn(async move {
                let id = format!("c-{n}");
                let event = RequestBodyChunkEvent::new(&*id, vec![7; 50_000], 0, true);
                let started = Instant::now();
                let result = pool.agent("agent").unwrap().send(&id, &event).await;
                (result, started.elapsed())
            })
        })
        .collect();

    for n in 0..100 {
        let id = format!("o-{n}");
        let started = Instant::now();
        let event = crate::common::request(&id, "/");
        pool.agent("other")
            .unwrap()
            .send(&id, &event)
            .await
            .unwrap();
        assert!(started.elapsed() < deadline);
    }

    for call in calls {
        let (result, took) = call.await.unwrap();
        assert_fails!(result, Error::Timeout { .. });
        assert!(took < deadline + SOON);
    }
    // Once the server reads, later calls are answered.
    let reading = tokio::spawn(async move {
        loop {
            let event = stream.expect_message().await;
            let Some(Value::Bytes(headers)) = find(&event, 2) else {
                continue;
            };
            let id = crate::common::proto::text(&crate::common::proto::content(&headers, 1), 1);
            stream.block(&id, 499);
        }
    });
    eventually("calls are answered again", async || {
        result_of(call(&pool, "after")).await.is_ok()
    })
    .await;
    reading.abort();
}
