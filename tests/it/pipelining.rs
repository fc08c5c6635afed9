//! Exchanges: the events of one HTTP request on one connection, one at a time or several at once.

use crate::common::*;
use bytes::Bytes;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tollgate::{
    AgentCapabilities, AgentHandler, AgentPool, AgentPoolConfig, AgentResponse, AgentServer,
    BodyChunk, CallError, CancelReason, Decision, Encoding, control::AgentLimits,
    events::RequestBodyChunkEvent, response::BodyMutation,
};

/// Returns configurations with and without the extension, in both encodings.
fn every_config() -> impl Iterator<Item = AgentPoolConfig> {
    BOTH.into_iter().flat_map(|encoding| {
        [true, false].map(|use_extension| config(encoding).use_extension(use_extension))
    })
}

/// Agent that collects one body, checks that its chunks are in order, and blocks at a word.
#[derive(Default)]
struct Collector {
    body: Mutex<Vec<u8>>,
    chunks: Mutex<u32>,
    cancelled: Arc<Mutex<Vec<(String, CancelReason)>>>,
}

impl AgentHandler for Collector {
    fn capabilities(&self) -> AgentCapabilities {
        AgentCapabilities::new("collector", "Collector", "1").with_limits(AgentLimits {
            max_body_size: 64 * 1024 * 1024,
            ..AgentLimits::default()
        })
    }

    async fn on_request_body_chunk(&self, event: BodyChunk<'_>) -> AgentResponse {
        // Every third chunk waits, so the chunks after it have to wait as well.
        if event.chunk_index.is_multiple_of(3) {
            tokio::task::yield_now().await;
        }
        let in_order = {
            let mut chunks = self.chunks.lock().unwrap();
            let in_order = *chunks == event.chunk_index;
            *chunks += 1;
            in_order
        };
        if !in_order {
            return AgentResponse::block(500, Some("out of order".to_owned()));
        }
        let mut body = self.body.lock().unwrap();
        let from = body.len().saturating_sub(16);
        body.extend(&event.data);
        if body[from..].windows(6).any(|part| part == b"attack") {
            return AgentResponse::block(403, None);
        }
        AgentResponse::default_allow()
            .with_request_body_mutation(BodyMutation::replace(event.chunk_index, event.data))
    }

    fn on_cancel(&self, correlation_id: &str, reason: CancelReason) {
        let cancelled = (correlation_id.to_owned(), reason);
        self.cancelled.lock().unwrap().push(cancelled);
    }
}

/// Connects a pool to a new [`Collector`].
async fn collector_pool(config: AgentPoolConfig) -> (AgentPool, tempfile::TempDir) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("agent.sock");
    let server = AgentServer::builder(Collector::default()).listen(path.display().to_string());
    let bound = server.bind().await.unwrap();
    tokio::spawn(bound.serve());
    (pool_with(config, &path).await, dir)
}

fn chunks<'c>(parts: &'c [&'static [u8]]) -> impl Iterator<Item = RequestBodyChunkEvent> + 'c {
    parts.iter().enumerate().map(|(at, part)| {
        let is_last = at + 1 == parts.len();
        RequestBodyChunkEvent::new("id", Bytes::from_static(part), at as u32, is_last)
    })
}

/// Pushes all chunks. Returns the data of each answer, `None` for a blocked chunk.
async fn decisions(pool: &AgentPool, parts: &[&'static [u8]]) -> Vec<Option<Bytes>> {
    let mut exchange = pool.agent("agent").unwrap().exchange("id").unwrap();
    for chunk in chunks(parts) {
        exchange.push(&chunk).await.unwrap();
    }

    assert_eq!(exchange.unanswered(), parts.len());

    let mut decisions = Vec::new();
    while let Some(answer) = exchange.next_answer().await {
        let answer = answer.unwrap();
        decisions.push(match answer.decision {
            Decision::Allow => answer.request_body_mutation.unwrap().data,
            Decision::Block { status: 403, .. } => None,
            other => panic!("{other:?}"),
        });
    }
    decisions
}

#[tokio::test]
async fn pushed_chunks_and_their_answers_stay_in_order() {
    let every_byte: &[u8] = Box::leak((0..=255).collect::<Box<[u8]>>());
    let long: &[u8] = Box::leak(vec![0xff; 300_000].into_boxed_slice());
    let parts: [&[u8]; 8] = [b"one", b"", every_byte, b"\0", long, b"six", b"seven", b""];
    for config in every_config() {
        let (pool, _dir) = collector_pool(config).await;
        let expected: Vec<_> = parts
            .iter()
            .map(|part| Some(Bytes::from_static(part)))
            .collect();
        assert_eq!(decisions(&pool, &parts).await, expected);
    }
}

#[tokio::test]
async fn agent_finds_a_word_across_chunks() {
    for config in every_config() {
        let (pool, _dir) = collector_pool(config).await;
        let decisions = decisions(&pool, &[b"an at", b"t", b"", b"ack here"]).await;
        let blocked: Vec<_> = decisions.iter().map(Option::is_none).collect();
        assert_eq!(blocked, [false, false, false, true]);
    }
}

#[tokio::test]
async fn events_can_be_sent_between_pushed_ones() {
    for config in every_config() {
        let (pool, _dir) = collector_pool(config).await;
        let mut exchange = pool.agent("agent").unwrap().exchange("id").unwrap();

        assert_eq!(exchange.correlation_id(), "id");

        let events: Vec<_> = chunks(&[b"a", b"b", b"c"]).collect();
        exchange.push(&events[0]).await.unwrap();
        let sent = exchange.send(&events[1]).await.unwrap();
        exchange.push(&events[2]).await.unwrap();

        let data = |answer: AgentResponse| answer.request_body_mutation.unwrap().data.unwrap();
        assert_eq!(data(sent), "b");
        assert_eq!(data(exchange.next_answer().await.unwrap().unwrap()), "a");
        assert_eq!(data(exchange.next_answer().await.unwrap().unwrap()), "c");
        assert!(exchange.next_answer().await.is_none());
    }
}

#[tokio::test]
async fn zentinel_protocol_has_one_unanswered_event_at_a_time() {
    let config = config(Encoding::MessagePack).use_extension(false);
    let (_agent, pool, mut connection) = raw_pool(config).await;

    let pushing = tokio::spawn(async move {
        let mut exchange = pool.agent("agent").unwrap().exchange("id").unwrap();
        for uri in ["/1", "/2"] {
            exchange.push(&request("id", uri)).await.unwrap();
        }
        let first = exchange.next_answer().await.unwrap();
        (first, exchange.next_answer().await.unwrap())
    });

    for status in [401, 402] {
        assert_eq!(connection.event().await, "id");
        connection.sync().await;
        connection.expect_silence();
        connection.block("id", status).await;
    }

    let (first, second) = pushing.await.unwrap();
    let status = |answer: CallResult| match answer.unwrap().decision {
        Decision::Block { status, .. } => status,
        other => panic!("{other:?}"),
    };
    assert_eq!((status(first), status(second)), (401, 402));
}

#[tokio::test]
async fn dropped_exchange_is_cancelled_at_the_agent() {
    let agent = serve().await;
    for config in every_config() {
        let pool = pool_with(config, &agent.path).await;
        let handle = pool.agent("agent").unwrap();
        agent.cancelled.lock().unwrap().clear();

        let mut pushed = handle.exchange("pushed").unwrap();
        pushed.push(&request("pushed", "/wait")).await.unwrap();
        drop(pushed);

        let mut sending = handle.exchange("sending").unwrap();
        let event = request("sending", "/wait");
        let sent = tokio::time::timeout(Duration::from_millis(20), sending.send(&event));
        assert!(sent.await.is_err());
        drop(sending);

        let mut done = handle.exchange("done").unwrap();
        done.send(&request("done", "/")).await.unwrap();
        done.push(&request("done", "/")).await.unwrap();
        done.next_answer().await.unwrap().unwrap();
        drop(done);

        let reason = CancelReason::ClientDisconnect;
        let expected = [
            ("pushed".to_owned(), reason),
            ("sending".to_owned(), reason),
        ];
        eventually("both are cancelled", async || {
            *agent.cancelled.lock().unwrap() == expected
        })
        .await;
        let stats = handle.stats();
        assert_eq!(stats.total_in_flight, 0);
    }
}

#[tokio::test]
async fn exchange_ends_with_its_connection() {
    let (_agent, pool, connection) = raw_pool(config(Encoding::Json)).await;
    let mut exchange = pool.agent("agent").unwrap().exchange("id").unwrap();
    exchange.push(&request("id", "/")).await.unwrap();

    drop(connection);
    let answer = exchange.next_answer().await.unwrap();
    assert_fails!(answer, CallError::ConnectionClosed { .. });
    let sent = exchange.send(&request("id", "/")).await;
    assert_fails!(sent, CallError::ConnectionClosed { .. });
    let pushed = exchange.push(&request("id", "/")).await;
    assert_fails!(pushed, CallError::ConnectionClosed { .. });
}

#[tokio::test]
async fn largest_chunk_passes_and_a_larger_one_is_rejected() {
    const LIMIT: usize = 16 * 1024 * 1024;
    let (pool, _dir) = collector_pool(config(Encoding::MessagePack)).await;
    let mut exchange = pool.agent("agent").unwrap().exchange("id").unwrap();

    // The rest of the frame takes less than 128 bytes.
    let largest = Bytes::from(vec![7; LIMIT - 128]);
    let event = RequestBodyChunkEvent::new("id", largest.clone(), 0, false);
    let answer = exchange.send(&event).await.unwrap();
    assert_eq!(answer.request_body_mutation.unwrap().data.unwrap(), largest);

    let event = RequestBodyChunkEvent::new("id", vec![7; LIMIT], 1, false);
    let rejected = exchange.send(&event).await;
    assert_fails!(rejected, CallError::MessageTooLarge { .. });

    let event = RequestBodyChunkEvent::new("id", "more", 1, true);
    assert_eq!(
        exchange.send(&event).await.unwrap().decision,
        Decision::Allow
    );
}

/// The body has as many chunks as bytes. Nothing accumulates on either side.
#[tokio::test]
async fn a_million_chunks_of_one_byte() {
    const CHUNKS: u32 = 1_000_000;
    let (pool, _dir) = collector_pool(config(Encoding::MessagePack)).await;
    let mut exchange = pool.agent("agent").unwrap().exchange("id").unwrap();
    let byte = Bytes::from_static(b"x");

    let mut answered = 0;
    for index in 0..CHUNKS {
        if exchange.unanswered() == 64 {
            let answer = exchange.next_answer().await.unwrap().unwrap();
            assert_eq!(answer.decision, Decision::Allow);
            answered += 1;
        }
        let event = RequestBodyChunkEvent::new("id", byte.clone(), index, index + 1 == CHUNKS);
        exchange.push(&event).await.unwrap();
    }

    while let Some(answer) = exchange.next_answer().await {
        assert_eq!(answer.unwrap().decision, Decision::Allow);
        answered += 1;
    }
    assert_eq!(answered, CHUNKS);
}

#[tokio::test]
async fn exchange_may_push_more_events_than_there_are_slots() {
    for config in every_config() {
        let (pool, _dir) = collector_pool(config.max_concurrent_per_connection(2)).await;
        let parts: [&[u8]; 9] = [b"part"; 9];
        let expected = vec![Some(Bytes::from_static(b"part")); parts.len()];
        assert_eq!(decisions(&pool, &parts).await, expected);
    }
}
