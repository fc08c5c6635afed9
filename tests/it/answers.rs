//! Answers reach the right call, whatever an agent sends.

use crate::common::{
    BOTH, Call, RawAgent, RawConnection, allowing, arrived, blocking, call, config, encode,
    expect_works, faults, frame, message, raw_pool, raw_pool_of, result_of, status_of,
};
use serde_json::{Value, json};
use std::time::{Duration, Instant};
use tollgate::{AgentPool, CallError as Error, Encoding};

/// Connects a pool whose calls time out after 100 ms.
async fn pool_with_short_timeout(
    encoding: Encoding,
    connections: usize,
) -> (RawAgent, AgentPool, Vec<RawConnection>) {
    raw_pool_of(
        config(encoding)
            .connections_per_agent(connections)
            .request_timeout(Duration::from_millis(100)),
    )
    .await
}

/// Begins the calls "c-0", "c-1" and so on, and waits until their events have arrived.
async fn several(pool: &AgentPool, connection: &mut RawConnection, count: u16) -> Vec<Call> {
    let mut calls = Vec::new();
    for n in 0..count {
        calls.push(arrived(pool, connection, &format!("c-{n}")).await);
    }
    calls
}

/// Asserts that each of [`several`] calls gets its own status.
async fn expect_own_answers(calls: Vec<Call>) {
    for (n, call) in (0_u16..).zip(calls) {
        assert_eq!(status_of(call).await, 400 + n);
    }
}

fn answers(encoding: Encoding, numbers: impl Iterator<Item = u16>) -> Vec<u8> {
    numbers
        .flat_map(|n| {
            frame(
                message::AGENT_RESPONSE,
                &encode(encoding, &blocking(&format!("c-{n}"), 400 + n)),
            )
        })
        .collect()
}

#[tokio::test]
async fn answers_out_of_order_reach_their_calls() {
    for encoding in BOTH {
        let (_agent, pool, mut connection) = raw_pool(config(encoding)).await;
        let calls = several(&pool, &mut connection, 50).await;

        for n in (0..50).rev() {
            connection.block(&format!("c-{n}"), 400 + n).await;
        }

        expect_own_answers(calls).await;
    }
}

#[tokio::test]
async fn answers_byte_by_byte_reach_their_calls() {
    for encoding in BOTH {
        let (_agent, pool, mut connection) = raw_pool(config(encoding)).await;
        let calls = several(&pool, &mut connection, 3).await;

        for byte in answers(encoding, 0..3) {
            connection.send_bytes(&[byte]).await;
            tokio::task::yield_now().await;
        }

        expect_own_answers(calls).await;
    }
}

#[tokio::test]
async fn many_answers_in_one_write_reach_their_calls() {
    for encoding in BOTH {
        let (_agent, pool, mut connection) = raw_pool(config(encoding)).await;
        let calls = several(&pool, &mut connection, 100).await;
        connection.send_bytes(&answers(encoding, 0..100)).await;
        expect_own_answers(calls).await;
    }
}

#[tokio::test]
async fn answer_without_a_call_is_counted_and_dropped() {
    for encoding in BOTH {
        let (_agent, pool, mut connection) = raw_pool(config(encoding)).await;
        let pending = arrived(&pool, &mut connection, "c-1").await;

        for unknown in ["c-2", "", "c-1 ", "C-1"] {
            connection.allow(unknown).await;
        }

        connection.block("c-1", 418).await;
        assert_eq!(status_of(pending).await, 418);
        assert_eq!(faults(&pool).await.unmatched_answers, 4);
    }
}

#[tokio::test]
async fn second_answer_is_counted_and_dropped() {
    for encoding in BOTH {
        let (_agent, pool, mut connection) = raw_pool(config(encoding)).await;
        let first = arrived(&pool, &mut connection, "c-1").await;

        connection.block("c-1", 418).await;
        connection.block("c-1", 419).await;
        assert_eq!(status_of(first).await, 418);

        connection.sync().await;
        assert_eq!(faults(&pool).await.unmatched_answers, 1);
        expect_works(&pool, &mut connection, "c-1").await;
    }
}

#[tokio::test]
async fn late_answer_is_not_given_to_the_next_call() {
    for encoding in BOTH {
        let (_agent, pool, mut connections) = pool_with_short_timeout(encoding, 1).await;
        let connection = &mut connections[0];
        let late = arrived(&pool, connection, "c-1").await;

        assert_fails!(result_of(late).await, Error::Timeout { .. });
        assert_fails!(
            result_of(call(&pool, "c-1")).await,
            Error::CorrelationBusy { .. }
        );

        expect_works(&pool, connection, "c-2").await;
        connection.allow("c-1").await;
        connection.sync().await;

        assert_eq!(faults(&pool).await.late_answers, 1);
        expect_works(&pool, connection, "c-1").await;
        assert_eq!(faults(&pool).await.unmatched_answers, 0);
    }
}

#[tokio::test]
async fn late_answer_that_does_not_decode_frees_its_id() {
    for encoding in BOTH {
        let (_agent, pool, mut connections) = pool_with_short_timeout(encoding, 1).await;
        let connection = &mut connections[0];
        let late = arrived(&pool, connection, "c-1").await;
        assert_fails!(result_of(late).await, Error::Timeout { .. });

        let broken = json!({"audit": {"custom": {"correlation_id": "c-1"}}});
        connection
            .send_value(message::AGENT_RESPONSE, &broken)
            .await;
        connection.sync().await;

        expect_works(&pool, connection, "c-1").await;
    }
}

#[tokio::test]
async fn exchange_with_a_late_answer_uses_another_connection() {
    for encoding in BOTH {
        let (_agent, pool, mut connections) = pool_with_short_timeout(encoding, 2).await;

        let late = arrived(&pool, &mut connections[0], "c-1").await;
        assert_fails!(result_of(late).await, Error::Timeout { .. });
        for _ in 0..3 {
            expect_works(&pool, &mut connections[1], "c-1").await;
        }
        connections[0].expect_silence();
    }
}

#[tokio::test]
async fn correlation_id_has_one_call_at_a_time_per_connection() {
    for encoding in BOTH {
        let (_agent, pool, mut connection) = raw_pool(config(encoding)).await;
        let first = arrived(&pool, &mut connection, "c-1").await;
        let second = result_of(call(&pool, "c-1")).await;
        assert_fails!(&second, Error::CorrelationBusy { .. });
        assert!(second.unwrap_err().is_retryable());

        connection.block("c-1", 418).await;
        assert_eq!(status_of(first).await, 418);
        expect_works(&pool, &mut connection, "c-1").await;
    }
}

#[tokio::test]
async fn answer_to_a_dropped_call_reaches_no_other_call() {
    for encoding in BOTH {
        let (_agent, pool, mut connection) = raw_pool(config(encoding)).await;
        let dropped = arrived(&pool, &mut connection, "c-1").await;
        dropped.abort();
        assert!(dropped.await.unwrap_err().is_cancelled());
        assert_fails!(
            result_of(call(&pool, "c-1")).await,
            Error::CorrelationBusy { .. }
        );

        let other = arrived(&pool, &mut connection, "c-2").await;
        connection.allow("c-1").await;
        connection.block("c-2", 418).await;

        assert_eq!(status_of(other).await, 418);
        assert_eq!(faults(&pool).await.late_answers, 1);
        expect_works(&pool, &mut connection, "c-1").await;
    }
}

/// Returns answers to "c-1" that do not decode although their correlation id can be read.
fn undecodable(encoding: Encoding) -> Vec<(&'static str, Vec<u8>)> {
    let mut answers: Vec<_> = [
        ("no decision", "decision", Value::Null),
        ("an unknown decision", "decision", json!("maybe")),
        (
            "a decision without its fields",
            "decision",
            json!({"block": {}}),
        ),
        (
            "a status out of range",
            "decision",
            json!({"block": {"status": 70000}}),
        ),
        (
            "two decisions",
            "decision",
            json!({"block": {"status": 403}, "redirect": {}}),
        ),
        ("a version of a wrong type", "version", json!("two")),
        (
            "header operations of a wrong type",
            "request_headers",
            json!({"set": 1}),
        ),
        (
            "an unknown header operation",
            "response_headers",
            json!([{"append": {"name": "a"}}]),
        ),
        (
            "routing of a wrong type",
            "routing_metadata",
            json!({"a": 1}),
        ),
        (
            "a mutation of a wrong type",
            "request_body_mutation",
            json!("drop"),
        ),
        (
            "an unknown websocket decision",
            "websocket_decision",
            json!("maybe"),
        ),
        ("needs_more of a wrong type", "needs_more", json!(1)),
    ]
    .into_iter()
    .map(|(what, field, value)| {
        let mut answer = allowing("c-1");
        answer[field] = value;
        (what, encode(encoding, &answer))
    })
    .collect();
    let mut surplus = encode(encoding, &allowing("c-1"));
    surplus.push(b'0');
    answers.push(("something behind the answer", surplus));
    let mut with_end = allowing("c-1");
    // Last by insertion and by name, so it is last in either order of maps.
    with_end["zzz"] = json!("the end");
    let mut cut = encode(encoding, &with_end);
    cut.pop();
    answers.push(("cut short", cut));
    let mut deep = json!(1);
    for _ in 0..500 {
        deep = json!([deep]);
    }
    let mut nested = allowing("c-1");
    nested["audit"]["custom"]["deep"] = deep;
    answers.push(("nested too deep", encode(encoding, &nested)));
    answers
}

#[tokio::test]
async fn text_of_a_mutation_is_kept_as_it_came() {
    for encoding in BOTH {
        let (_agent, pool, mut connection) = raw_pool(config(encoding)).await;
        for (text, bytes, is_plain) in [
            ("aGVsbG8=", &b"hello"[..], false),
            ("hello, world", b"hello, world", true),
            ("", b"", false),
        ] {
            let pending = arrived(&pool, &mut connection, "c-1").await;
            let mut answer = allowing("c-1");
            answer["request_body_mutation"] = json!({"data": text, "chunk_index": 1});
            let answer = encode(encoding, &answer);
            connection.send(message::AGENT_RESPONSE, &answer).await;
            let answer = result_of(pending).await.unwrap();
            let mutation = answer.request_body_mutation.unwrap();
            assert_eq!(mutation.data.as_deref(), Some(bytes), "{text}");
            assert_eq!(mutation.text().as_deref(), Some(text));
            assert_eq!(mutation.is_plain_text(), is_plain, "{text}");
        }
    }
}

#[tokio::test]
async fn null_is_an_empty_list_or_map() {
    for encoding in BOTH {
        let (_agent, pool, mut connection) = raw_pool(config(encoding)).await;
        let pending = arrived(&pool, &mut connection, "c-1").await;
        let mut answer = allowing("c-1");
        for field in ["request_headers", "response_headers", "routing_metadata"] {
            answer[field] = Value::Null;
        }
        for field in ["tags", "rule_ids", "reason_codes"] {
            answer["audit"][field] = Value::Null;
        }
        let answer = encode(encoding, &answer);
        connection.send(message::AGENT_RESPONSE, &answer).await;
        let answer = result_of(pending).await.unwrap();
        assert_eq!(answer, tollgate::AgentResponse::default_allow());
    }
}

#[tokio::test]
async fn undecodable_answer_fails_its_call_at_once() {
    for encoding in BOTH {
        let (_agent, pool, mut connection) = raw_pool(config(encoding)).await;
        let other = arrived(&pool, &mut connection, "c-2").await;

        for (count, (what, answer)) in (1..).zip(undecodable(encoding)) {
            let pending = arrived(&pool, &mut connection, "c-1").await;
            let started = Instant::now();
            connection.send(message::AGENT_RESPONSE, &answer).await;
            let result = result_of(pending).await;
            assert!(
                matches!(result, Err(Error::InvalidMessage { .. })),
                "{what}: {result:?}"
            );
            assert!(started.elapsed() < Duration::from_secs(1), "{what}");
            assert_eq!(faults(&pool).await.undecodable_answers, count, "{what}");
        }

        connection.block("c-2", 418).await;
        assert_eq!(status_of(other).await, 418);
        expect_works(&pool, &mut connection, "c-1").await;
    }
}

#[tokio::test]
async fn undecodable_answer_without_an_id_leaves_a_timeout() {
    for encoding in BOTH {
        let nameless = json!({"version": 2, "decision": "allow"});
        let misnamed =
            json!({"version": 2, "decision": "allow", "audit": {"custom": {"correlation_id": 1}}});
        let misplaced = json!({"version": 2, "decision": "allow", "request_id": "c-1"});

        let answers = [
            Vec::new(),
            b"\xc1 garbage".to_vec(),
            encode(encoding, &nameless),
            encode(encoding, &misnamed),
            encode(encoding, &misplaced),
        ];

        let (_agent, pool, mut connections) = pool_with_short_timeout(encoding, 1).await;
        let connection = &mut connections[0];
        let pending = arrived(&pool, connection, "c-1").await;

        for answer in &answers {
            connection.send(message::AGENT_RESPONSE, answer).await;
        }

        expect_works(&pool, connection, "c-2").await;
        assert_fails!(result_of(pending).await, Error::Timeout { .. });
        assert_eq!(
            faults(&pool).await.undecodable_answers,
            answers.len() as u64
        );
    }
}

#[tokio::test]
async fn answer_of_another_version_is_an_error_to_its_caller() {
    for encoding in BOTH {
        let (_agent, pool, mut connection) = raw_pool(config(encoding)).await;
        for version in [0, 1, 3, u32::MAX] {
            let id = version.to_string();
            let pending = arrived(&pool, &mut connection, &id).await;
            let mut answer = allowing(&id);
            answer["version"] = version.into();
            connection
                .send_value(message::AGENT_RESPONSE, &answer)
                .await;
            assert_fails!(result_of(pending).await, Error::InvalidMessage { .. });
        }
        assert_eq!(faults(&pool).await.undecodable_answers, 4);
    }
}
