//! Counters of the pool, as published to a recorder of the `metrics` facade.

use crate::common::*;
use metrics_util::debugging::{DebugValue, DebuggingRecorder};
use std::collections::BTreeMap;

#[tokio::test]
async fn published_counters_and_gauges_match_the_calls() {
    let agent = serve().await;
    let pool = pool_with(config(BOTH[0]), &agent.path).await;
    for (id, uri) in [("c-1", "/"), ("c-2", "/block"), ("c-3", "/block")] {
        pool.agent("agent")
            .unwrap()
            .send(id, &request(id, uri))
            .await
            .unwrap();
    }

    let recorder = DebuggingRecorder::new();
    let snapshotter = recorder.snapshotter();
    metrics::with_local_recorder(&recorder, || {
        let metrics = pool.metrics().snapshot();
        metrics.publish("edge");
        // Counts are set, not added.
        metrics.publish("edge");
    });

    let mut published = BTreeMap::new();
    for (key, _, _, value) in snapshotter.snapshot().into_vec() {
        let (name, labels) = key.key().clone().into_parts();
        let mut series = name.as_str().to_owned();
        for label in labels {
            series += &format!(" {}={}", label.key(), label.value());
        }
        published.insert(series, value);
    }

    let count = |series: &str| match published.get(series) {
        Some(DebugValue::Counter(count)) => *count,
        other => panic!("{series}: {other:?}"),
    };

    assert_eq!(count("edge_requests_total"), 3);
    assert_eq!(
        count("edge_agent_decisions_total agent_id=agent decision=allow"),
        1
    );
    assert_eq!(
        count("edge_agent_decisions_total agent_id=agent decision=block"),
        2
    );
    assert_eq!(count("edge_affinity_evictions_total"), 0);
    let connections = &published["edge_agent_active_connections agent_id=agent"];
    assert_eq!(*connections, DebugValue::Gauge(1.0.into()));
}
