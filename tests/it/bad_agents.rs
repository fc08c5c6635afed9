//! Agents that violate the protocol after the handshake.

use crate::common::{
    BOTH, HonestCalls, MemoryGrowth, RawConnection, Recorder, arrived, call, config, eventually,
    expect_works, faults, frame, in_virtual_time, message, raw_pool, request, result_of, serve,
    status_of,
};
use serde_json::json;
use std::time::Duration;
use tokio::time::Instant;
use tollgate::control::AgentNotice;
use tollgate::{AgentConfig, AgentPool, AgentPoolConfig, CallError as Error, Decision, Encoding};

/// Time within which calls must fail once their connection has ended.
const SOON: Duration = Duration::from_secs(1);

async fn expect_lost(pool: &AgentPool) {
    assert!(!pool.agent("agent").is_some_and(|agent| agent.is_healthy()));
    assert_fails!(
        result_of(call(pool, "later")).await,
        Error::Unavailable { .. }
    );
    assert_eq!(faults(pool).await.connections_lost, 1);
    assert_eq!(pool.agent("agent").unwrap().stats().active_connections, 0);
}

#[tokio::test]
async fn invalid_frame_length_ends_the_connection_at_once() {
    for length in [0, 16 * 1024 * 1024 + 1, u32::MAX] {
        let (_agent, pool, mut connection) = raw_pool(config(Encoding::Json)).await;
        let pending = arrived(&pool, &mut connection, "c-1").await;

        connection.send_bytes(&length.to_be_bytes()).await;
        let started = Instant::now();
        assert_fails!(result_of(pending).await, Error::ConnectionClosed { .. });
        assert!(started.elapsed() < SOON, "{length}");

        connection.expect_end().await;
        expect_lost(&pool).await;
        assert_eq!(faults(&pool).await.invalid_frames, 1);
    }
}

#[tokio::test]
async fn truncated_answer_completes_no_call() {
    for encoding in BOTH {
        for left_out in [1, 10, 60] {
            let (_agent, pool, mut connection) = raw_pool(config(encoding)).await;
            let pending = arrived(&pool, &mut connection, "c-1").await;

            let answer = frame(
                message::AGENT_RESPONSE,
                &crate::common::encode(encoding, &crate::common::allowing("c-1")),
            );
            connection
                .send_bytes(&answer[..answer.len() - left_out])
                .await;
            drop(connection);

            assert_fails!(result_of(pending).await, Error::ConnectionClosed { .. });
            expect_lost(&pool).await;
            assert_eq!(faults(&pool).await.invalid_frames, 0);
        }
    }
}

#[tokio::test]
async fn answers_before_an_invalid_frame_count() {
    let (_agent, pool, mut connection) = raw_pool(config(Encoding::Json)).await;
    let answered = arrived(&pool, &mut connection, "c-1").await;
    let unanswered = arrived(&pool, &mut connection, "c-2").await;

    let mut bytes = frame(
        message::AGENT_RESPONSE,
        &crate::common::encode(Encoding::Json, &crate::common::blocking("c-1", 418)),
    );
    bytes.extend([0; 4]);
    connection.send_bytes(&bytes).await;

    assert_eq!(status_of(answered).await, 418);
    assert_fails!(result_of(unanswered).await, Error::ConnectionClosed { .. });
}

#[tokio::test]
async fn unexpected_messages_are_counted_and_ignored() {
    for encoding in BOTH {
        let (_agent, pool, mut connection) = raw_pool(config(encoding)).await;
        let unexpected = [
            0x00,
            message::HANDSHAKE_REQUEST,
            message::HANDSHAKE_RESPONSE,
            0x03,
            message::REQUEST_HEADERS,
            message::CONFIGURE,
            0x18,
            0x21,
            message::CANCEL,
            0x43,
            0xf0,
            0xff,
        ];
        let pending = arrived(&pool, &mut connection, "c-1").await;

        for message in unexpected {
            connection.send(message, b"{}").await;
            connection.send(message, b"").await;
        }

        connection.block("c-1", 418).await;
        assert_eq!(status_of(pending).await, 418);
        let expected = 2 * unexpected.len() as u64;
        assert_eq!(faults(&pool).await.unexpected_messages, expected);
        expect_works(&pool, &mut connection, "c-2").await;
    }
}

#[tokio::test]
async fn undecodable_control_messages_are_counted_and_ignored() {
    let nested = "[".repeat(100_000);
    let garbage = [
        b"".as_slice(),
        b"{",
        b"[]",
        b"{}",
        b"\xc1",
        b"{\"state\":\"\xff\"}",
        nested.as_bytes(),
    ];
    for encoding in BOTH {
        let (_agent, pool, mut connection) = raw_pool(config(encoding)).await;

        for message in [
            message::HEALTH_STATUS,
            message::METRICS_REPORT,
            message::CONFIG_UPDATE_REQUEST,
            message::FLOW_CONTROL,
            message::PONG,
        ] {
            for payload in garbage {
                connection.send(message, payload).await;
            }
        }

        connection
            .send(message::FLOW_CONTROL, br#"{"action":3}"#)
            .await;
        connection
            .send(
                message::FLOW_CONTROL,
                br#"{"correlation_id":7,"action":{"type":"pause"}}"#,
            )
            .await;
        connection
            .send(message::HEALTH_STATUS, br#"{"state":9}"#)
            .await;

        expect_works(&pool, &mut connection, "c-1").await;
        let expected = 5 * garbage.len() as u64 + 3;
        assert_eq!(faults(&pool).await.undecodable_messages, expected);
    }
}

/// Returns each kind of message that an agent sends on its own, `factor` times as long as allowed.
fn long_messages(factor: usize) -> Vec<Vec<u8>> {
    const MAX: usize = 128 * 1024;
    const MAX_LIST: usize = 1024 * 1024;
    let report = json!({"agent_id": "a", "timestamp_ms": 1, "interval_ms": 1});
    let request = json!({
        "request_id": "r", "update_type": {"type": "request_reload"}, "timestamp_ms": 1,
    });
    [
        (
            message::PING,
            MAX,
            json!({"sequence": 1, "timestamp_ms": 1}),
        ),
        (message::HEALTH_STATUS, MAX, json!({"state": 4})),
        (message::METRICS_REPORT, MAX_LIST, report),
        (message::CONFIG_UPDATE_REQUEST, MAX_LIST, request),
        (message::FLOW_CONTROL, MAX, json!({"action": 1})),
    ]
    .map(|(number, max, message)| {
        let mut payload = message.to_string().into_bytes();
        // Space after a JSON value is no part of it.
        payload.resize(factor * max, b' ');
        frame(number, &payload)
    })
    .into()
}

#[tokio::test]
async fn messages_as_long_as_allowed_take_effect() {
    let (_agent, pool, mut connection) = raw_pool(config(Encoding::Json)).await;
    let agent = pool.agent("agent").unwrap();
    let mut notices = agent.notices();
    for message in long_messages(1) {
        connection.send_bytes(&message).await;
    }
    assert_eq!(connection.sync().await, [message::PONG]);
    assert_eq!(faults(&pool).await.unexpected_messages, 0);

    let next = notices.recv().await.unwrap();
    assert!(matches!(next, AgentNotice::Health { .. }), "{next:?}");
    assert!(!agent.is_healthy());
    let next = notices.recv().await.unwrap();
    assert!(matches!(next, AgentNotice::Metrics { .. }), "{next:?}");
    eventually("the request is answered", async || {
        agent.stats().config_updates_accepted == 1
    })
    .await;
    let healthy = json!({"state": 1});
    connection
        .send_value(message::HEALTH_STATUS, &healthy)
        .await;
    connection.sync().await;
    assert_fails!(
        result_of(call(&pool, "c-1")).await,
        Error::FlowControlPaused { .. }
    );
}

#[tokio::test]
async fn messages_of_ten_times_the_allowed_length_are_dropped_and_counted() {
    const ROUNDS: usize = 10;
    let (_agent, pool, mut connection) = raw_pool(config(Encoding::Json)).await;
    let agent = pool.agent("agent").unwrap();
    let good = serve().await;
    let good_config = AgentConfig::new("good", good.path.to_str().unwrap());
    pool.add(good_config).await.unwrap();
    let honest = HonestCalls::to_agent(&pool, "good");
    let messages = long_messages(10);
    let recorder = Recorder::of("tollgate");
    let _guard = tracing::subscriber::set_default(recorder.clone());
    let mut notices = agent.notices();

    let memory = MemoryGrowth::watch();
    for _ in 0..ROUNDS {
        for message in &messages {
            connection.send_bytes(message).await;
        }
        assert_eq!(connection.sync().await, [0; 0], "a ping was answered");
    }
    memory.expect_within(64 * 1024 * 1024);
    honest.end().await;
    recorder.expect_few_and_short(1);

    let dropped = (ROUNDS * messages.len()) as u64;
    assert_eq!(faults(&pool).await.unexpected_messages, dropped);
    assert_eq!(agent.stats().config_updates_accepted, 0);
    assert!(agent.is_healthy());
    expect_works(&pool, &mut connection, "c-1").await;
    let status = json!({"state": 1, "message": "short"});
    connection.send_value(message::HEALTH_STATUS, &status).await;
    let next = notices.recv().await.unwrap();
    assert!(matches!(next, AgentNotice::Health { .. }), "{next:?}");
}

#[tokio::test]
async fn unexpected_pong_is_ignored() {
    let (_agent, pool, mut connection) = raw_pool(config(Encoding::Json)).await;
    connection
        .send(message::PONG, br#"{"sequence":0,"timestamp_ms":1}"#)
        .await;

    let ponging = async {
        let (message, ping) = connection.message().await;
        assert_eq!(message, message::PING);
        connection
            .send(message::PONG, br#"{"sequence":12345}"#)
            .await;
        for _ in 0..2 {
            connection.send_value(message::PONG, &ping).await;
        }
    };

    let agent = pool.agent("agent").unwrap();
    let (pinged, ()) = tokio::join!(agent.ping(), ponging);
    pinged.unwrap();
    expect_works(&pool, &mut connection, "c-1").await;
}

#[tokio::test]
async fn pings_are_answered_in_order_with_the_same_payload() {
    let large = [0x5a; 100_000];
    let payloads = [
        b"{\"sequence\":1}".as_slice(),
        b"",
        b"\xff\x00 no JSON",
        &large,
        b"{\"sequence\":1}",
    ];
    for encoding in BOTH {
        let (_agent, _pool, mut connection) = raw_pool(config(encoding)).await;

        for payload in payloads {
            connection.send(message::PING, payload).await;
        }

        for payload in payloads {
            assert_eq!(
                connection.receive().await,
                Some((message::PONG, payload.to_vec()))
            );
        }
    }
}

#[tokio::test]
async fn calls_fail_quickly_when_their_connection_ends() {
    const QUICKLY: Duration = Duration::from_millis(50);
    for encoding in BOTH {
        for connections_per_agent in [1, 4] {
            let config = config(encoding).connections_per_agent(connections_per_agent);
            let (_agent, pool, mut connections) = crate::common::raw_pool_of(config).await;
            let calls: Vec<_> = (0..64).map(|n| call(&pool, &format!("c-{n}"))).collect();
            for n in 0..64 {
                connections[n % connections_per_agent].event().await;
            }

            drop(connections);
            let started = Instant::now();
            for call in calls {
                assert_fails!(result_of(call).await, Error::ConnectionClosed { .. });
            }
            assert!(started.elapsed() < QUICKLY, "{:?}", started.elapsed());

            assert!(!pool.agent("agent").is_some_and(|agent| agent.is_healthy()));
            let stats = pool.agent("agent").unwrap().stats();
            assert_eq!(
                (stats.total_in_flight, stats.calls.connection_closed),
                (0, 64)
            );
            assert_eq!(crate::common::pins(&pool), 0);
        }
    }
}

#[tokio::test]
async fn answers_split_at_any_byte_reach_their_calls() {
    for encoding in BOTH {
        let (_agent, pool, mut connection) = raw_pool(config(encoding)).await;
        let answers = |round: usize| -> Vec<u8> {
            let answer = |n: u16| {
                let id = format!("{round}-{n}");
                frame(
                    message::AGENT_RESPONSE,
                    &crate::common::encode(encoding, &crate::common::blocking(&id, 400 + n)),
                )
            };
            (0..3).flat_map(answer).collect()
        };

        for cut in 1..answers(100).len() {
            // All ids have the same length, so every cut is at another byte.
            let round = 100 + cut;
            let mut calls = Vec::new();
            for n in 0..3 {
                calls.push(arrived(&pool, &mut connection, &format!("{round}-{n}")).await);
            }
            let bytes = answers(round);
            connection.send_bytes(&bytes[..cut]).await;
            // Lets the proxy read the first part before the rest is sent.
            tokio::task::yield_now().await;
            connection.send_bytes(&bytes[cut..]).await;
            for (n, call) in calls.into_iter().enumerate() {
                assert_eq!(status_of(call).await, 400 + n as u16);
            }
        }
        assert_eq!(faults(&pool).await, Default::default());
    }
}

/// Sends everything that a connection survives, then a frame that ends it.
async fn misbehave(mut connection: RawConnection) {
    for _ in 0..100 {
        connection.send(message::AGENT_RESPONSE, b"garbage").await;
        connection.send(message::UNKNOWN, b"garbage").await;
        connection.allow("unknown").await;
    }
    connection.send_bytes(&[0; 4]).await;
    connection.expect_end().await;
}

#[tokio::test]
async fn broken_agent_does_not_affect_other_agents() {
    let healthy = serve().await;
    for encoding in BOTH {
        let (_agent, pool, connection) = raw_pool(config(encoding)).await;
        pool.add(AgentConfig::new("healthy", healthy.path.to_str().unwrap()))
            .await
            .unwrap();

        let ask = async || {
            for n in 0..50 {
                let event = request(&n.to_string(), "/block");
                let answer = pool
                    .agent("healthy")
                    .unwrap()
                    .send(&n.to_string(), &event)
                    .await
                    .unwrap();
                assert!(matches!(
                    answer.decision,
                    Decision::Block { status: 403, .. }
                ));
            }
        };

        tokio::join!(ask(), misbehave(connection));
        ask().await;
        expect_lost(&pool).await;
        let stats = pool.agent("healthy").unwrap().stats();
        assert_eq!((stats.total_errors, stats.faults), (0, Default::default()));
    }
}

#[tokio::test]
async fn broken_connection_does_not_affect_other_connections() {
    let connections_per_agent = 2;
    let config = config(Encoding::MessagePack).connections_per_agent(connections_per_agent);
    let (_agent, pool, mut connections) = crate::common::raw_pool_of(config).await;

    let [mut good, bad] = [connections.remove(0), connections.remove(0)];
    let on_good = arrived(&pool, &mut good, "c-1").await;
    misbehave(bad).await;

    good.block("c-1", 418).await;
    assert_eq!(status_of(on_good).await, 418);
    for n in 0..4 {
        expect_works(&pool, &mut good, &n.to_string()).await;
    }
}

/// An agent may hang up on every connection after its first message, or without any. The pool must
/// not connect to it again and again without a pause.
#[test]
fn agent_that_hangs_up_on_every_connection_is_reconnected_with_pauses() {
    in_virtual_time(async {
        const ROUNDS: u32 = 4;
        for first_message in [None, Some(br#"{"state":0}"#)] {
            let hang_up = async |mut connection: RawConnection| {
                if let Some(payload) = first_message {
                    // A connection notes the millisecond of the last message.
                    tokio::time::sleep(Duration::from_millis(2)).await;
                    connection.send(message::HEALTH_STATUS, payload).await;
                }
            };
            let (agent, _pool, connection) = raw_pool(config(Encoding::Json)).await;
            let started = Instant::now();
            hang_up(connection).await;
            for _ in 0..ROUNDS {
                hang_up(agent.accept_in(Encoding::Json).await).await;
            }
            // Each pause is at least half of the interval.
            let shortest = AgentPoolConfig::default().reconnect_interval / 2;
            let took = started.elapsed();
            assert!(took >= shortest * ROUNDS, "{took:?}");
        }
    });
}
