//! Timings of calls: encoding, waiting, wire and decoding.

use crate::common::{BOTH, arrived, config, pool_with, raw_pool, request, result_of, serve};
use std::collections::HashMap;
use std::time::{Duration, Instant};
use tollgate::{
    AgentPool, Decision, Encoding,
    events::{RequestBodyChunkEvent, ResponseHeadersEvent},
    metrics::{CallTimings, HistogramSnapshot},
};

/// Time that the agent takes to answer.
const WORK: Duration = Duration::from_millis(50);

fn assert_adds_up(timings: CallTimings, measured: Duration) {
    let (total, measured) = (timings.total().as_secs_f64(), measured.as_secs_f64());
    assert!(
        (total - measured).abs() <= measured * 0.02,
        "{timings:?} in {measured} s"
    );
}

fn begin(
    pool: &AgentPool,
    id: &'static str,
) -> tokio::task::JoinHandle<(Option<CallTimings>, Duration)> {
    let pool = pool.clone();
    tokio::spawn(async move {
        let event = request(id, "/");
        let began = Instant::now();
        let (_, timings) = pool
            .agent("agent")
            .unwrap()
            .send(id, &event)
            .timed()
            .await
            .unwrap();
        (timings, began.elapsed())
    })
}

#[tokio::test]
async fn stages_add_up_to_the_duration_of_the_call() {
    for encoding in BOTH {
        let (_agent, pool, mut connection) = raw_pool(config(encoding)).await;

        let call = begin(&pool, "r-1");
        assert_eq!(connection.event().await, "r-1");
        tokio::time::sleep(WORK).await;
        connection.allow("r-1").await;

        let (timings, measured) = call.await.unwrap();
        let timings = timings.unwrap();
        assert!(timings.wire >= WORK, "{timings:?}");
        assert!(timings.encode > Duration::ZERO && timings.decode > Duration::ZERO);
        assert_adds_up(timings, measured);
    }
}

/// Waiting for a slot does not count as time that the agent took.
#[tokio::test]
async fn waiting_for_a_slot_is_timed_separately() {
    let config = config(Encoding::MessagePack).max_concurrent_per_connection(1);
    let (_agent, pool, mut connection) = raw_pool(config).await;

    let first = arrived(&pool, &mut connection, "r-1").await;
    let second = begin(&pool, "r-2");
    crate::common::eventually("the second call waits", async || {
        crate::common::calls_made(&pool).await == 2
    })
    .await;

    tokio::time::sleep(WORK).await;
    connection.allow("r-1").await;
    result_of(first).await.unwrap();
    assert_eq!(connection.event().await, "r-2");
    connection.allow("r-2").await;

    let (timings, measured) = second.await.unwrap();
    let timings = timings.unwrap();
    assert!(timings.wait >= WORK && timings.wire < WORK, "{timings:?}");
    assert_adds_up(timings, measured);
}

async fn ask(pool: &AgentPool, calls: usize) {
    for n in 0..calls {
        let id = format!("r-{n}");
        let event = request(&id, "/");
        pool.agent("agent")
            .unwrap()
            .send(&id, &event)
            .await
            .unwrap();
        pool.unpin(&id);
    }
}

#[tokio::test]
async fn one_call_in_each_interval_is_timed() {
    let agent = serve().await;
    for (timing_interval, timed) in [(64, 4), (0, 0), (1, 256)] {
        let config = config(Encoding::MessagePack).timing_interval(timing_interval);
        let pool = pool_with(config, &agent.path).await;
        ask(&pool, 256).await;

        let snapshot = pool.metrics().snapshot();
        let stages = &snapshot.total.stages;
        for stage in [&stages.encode, &stages.wait, &stages.wire, &stages.decode] {
            assert_eq!(stage.count, timed, "one in {timing_interval}");
        }
        assert_eq!(snapshot.serialization_time, stages.encode);
        assert_eq!(snapshot.request_duration.count, 256);
    }
}

#[tokio::test]
async fn exported_stages_add_up_to_exported_durations() {
    let agent = serve().await;
    let config = config(Encoding::MessagePack).timing_interval(1);
    let pool = pool_with(config, &agent.path).await;
    ask(&pool, 200).await;

    let metrics = pool.metrics().snapshot().agents["agent"].clone();
    let sum = |histogram: &HistogramSnapshot| histogram.sum as f64;
    let stages = &metrics.stages;
    // A duration ends when the answer is received.
    let added = sum(&stages.encode) + sum(&stages.wait) + sum(&stages.wire);
    let durations = sum(&metrics.request_duration);
    assert!((added - durations).abs() <= durations * 0.02, "{metrics:?}");
}

#[tokio::test]
async fn exchange_times_sent_events_but_not_pushed_ones() {
    let agent = serve().await;
    let config = config(Encoding::MessagePack).timing_interval(1);
    let pool = pool_with(config, &agent.path).await;

    let mut exchange = pool.agent("agent").unwrap().exchange("r-1").unwrap();
    let began = Instant::now();
    let (_, timings) = exchange.send(&request("r-1", "/")).timed().await.unwrap();
    assert!(timings.unwrap().total() <= began.elapsed());

    let chunk = RequestBodyChunkEvent::new("r-1", &b"a body"[..], 0, true);
    exchange.push(&chunk).await.unwrap();
    exchange.next_answer().await.unwrap().unwrap();

    let snapshot = pool.metrics().snapshot();
    assert_eq!(snapshot.total.stages.wire.count, 1);
    assert_eq!(snapshot.request_duration.count, 2);
}

#[tokio::test]
async fn skipped_event_has_no_timings() {
    let config = config(Encoding::MessagePack).skip_unsubscribed_events(true);
    // This agent subscribes to the events of a request only.
    let (_agent, pool, _connection) = raw_pool(config).await;

    let event = ResponseHeadersEvent {
        correlation_id: "r-1".to_owned(),
        status: 200,
        headers: HashMap::new(),
    };

    let (answer, timings) = pool
        .agent("agent")
        .unwrap()
        .send("r-1", &event)
        .timed()
        .await
        .unwrap();
    assert_eq!(answer.decision, Decision::Allow);
    assert_eq!(timings, None);
    assert_eq!(pool.metrics().snapshot().total.calls.skipped, 1);
}
