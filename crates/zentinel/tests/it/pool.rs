//! Agents by name: adding, replacing, removing, and a method for each thing that they are sent.

use super::events::{complete, frame, prompt, request, response};
use super::recorder::Recorder;
use super::{assert_fails, eventually, one_connection, pool_with};
use serde_json::json;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use zentinel_agent_protocol::v2::{
    AgentPool, AgentPoolConfig, CancelReason, ConfigUpdateType, CounterMetric, DrainReason,
    MetricsReport, ShutdownReason,
};
use zentinel_agent_protocol::{
    AgentProtocolError as Error, BinaryRequestBodyChunkEvent, BinaryResponseBodyChunkEvent, Bytes,
    RequestBodyChunkEvent, ResponseBodyChunkEvent,
};

#[tokio::test]
async fn added_agent_replaces_the_one_of_its_name() {
    let (old, new) = (Recorder::serve().await, Recorder::serve().await);
    let pool = pool_with(one_connection(), &old.path).await;
    pool.send_request_headers("agent", "c-1", &request("c-1"))
        .await
        .unwrap();
    pool.clear_correlation_affinity("c-1");

    pool.add_agent("agent", format!("unix:{}", new.path.display()))
        .await
        .unwrap();
    pool.send_request_headers("agent", "c-2", &request("c-2"))
        .await
        .unwrap();

    assert_eq!(old.take(), ["request headers c-1"]);
    assert_eq!(new.take(), ["request headers c-2"]);
    assert_eq!(pool.agent_ids(), ["agent"]);
    let stats = pool.agent_stats("agent").await.unwrap();
    assert_eq!(stats.total_requests, 2, "the counters continue");
    assert_eq!(pool.stats().await.len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn replacing_an_agent_loses_no_call() {
    let agents = [Recorder::serve().await, Recorder::serve().await];
    let pool = pool_with(one_connection(), &agents[0].path).await;
    let is_over = Arc::new(AtomicBool::new(false));
    let callers = ["a", "b", "c", "d"].map(|id| {
        let (pool, is_over) = (pool.clone(), Arc::clone(&is_over));
        tokio::spawn(async move {
            let prompt = prompt(id);
            while !is_over.load(Ordering::Relaxed) {
                let answer = pool.send_guardrail_inspect("agent", id, &prompt).await;
                answer.unwrap();
            }
        })
    });
    for n in 0..50 {
        let path = agents[n % 2].path.to_str().unwrap();
        pool.add_agent("agent", path).await.unwrap();
    }
    is_over.store(true, Ordering::Relaxed);
    for caller in callers {
        caller.await.unwrap();
    }
    assert!(agents.iter().all(|agent| !agent.take().is_empty()));
}

/// The Zentinel proxy adds its agents on another runtime than that of its workers.
#[tokio::test]
async fn worker_on_another_runtime_gets_connections_of_its_own() {
    let agent = Recorder::serve().await;
    let pool = pool_with(one_connection(), &agent.path).await;
    let worker = tokio::task::spawn_blocking(move || {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        runtime.block_on(async {
            pool.send_request_headers("agent", "c-1", &request("c-1"))
                .await
                .unwrap();
            eventually("the worker is connected", async || {
                pool.agent_stats("agent").await.unwrap().active_connections == 2
            })
            .await;
        });
    });
    worker.await.unwrap();
}

#[tokio::test]
async fn unreachable_agent_is_added_but_not_connected() {
    let pool = AgentPool::new();
    let nowhere = "/nonexistent/agent.sock";

    assert_fails!(
        pool.connect_agent("agent", nowhere).await,
        Error::ConnectionFailed(_)
    );
    assert_eq!(pool.agent_ids(), Vec::<String>::new());

    pool.add_agent("agent", nowhere).await.unwrap();
    assert_eq!(pool.agent_ids(), ["agent"]);
    assert!(!pool.is_agent_healthy("agent"));
    assert!(pool.agent_capabilities("agent").await.is_none());
    assert_fails!(
        pool.send_request_headers("agent", "c-1", &request("c-1"))
            .await,
        Error::ConnectionFailed(_)
    );
}

#[tokio::test]
async fn reachable_agent_is_connected() {
    let agent = Recorder::serve().await;
    let pool = AgentPool::new();
    pool.connect_agent("agent", agent.path.to_str().unwrap())
        .await
        .unwrap();
    assert!(pool.is_agent_healthy("agent"));
    let capabilities = pool.agent_capabilities("agent").await.unwrap();
    assert_eq!(capabilities.name, "Recorder");
}

#[tokio::test]
async fn agent_with_an_unusable_endpoint_is_added_and_never_healthy() {
    let pool = AgentPool::new();
    pool.add_agent("agent", "ftp://example.com").await.unwrap();
    assert_eq!(pool.agent_ids(), ["agent"]);
    assert!(!pool.is_agent_healthy("agent"));
    assert_fails!(
        pool.send_request_headers("agent", "c-1", &request("c-1"))
            .await,
        Error::ConnectionFailed(_)
    );
    assert_fails!(
        pool.add_agent("", "/run/agent.sock").await,
        Error::ConnectionFailed(_)
    );
    assert_eq!(pool.agent_ids(), ["agent"]);
}

#[tokio::test]
async fn removed_agent_is_unknown() {
    let agent = Recorder::serve().await;
    let pool = pool_with(one_connection(), &agent.path).await;
    pool.remove_agent("agent").await.unwrap();

    assert_fails!(pool.remove_agent("agent").await, Error::InvalidMessage(_));
    assert_fails!(
        pool.send_request_headers("agent", "c-1", &request("c-1"))
            .await,
        Error::InvalidMessage(_)
    );
    assert_fails!(
        pool.cancel_request("agent", "c-1", CancelReason::Manual)
            .await,
        Error::InvalidMessage(_)
    );
    assert_fails!(
        pool.configure_agent("agent", json!({}), None).await,
        Error::InvalidMessage(_)
    );
    assert_fails!(
        pool.send_drain("agent", 1, DrainReason::Manual).await,
        Error::InvalidMessage(_)
    );
    assert!(pool.agent_stats("agent").await.is_none());
    assert!(pool.agent_capabilities("agent").await.is_none());
    assert!(!pool.is_agent_healthy("agent"));
}

#[tokio::test]
async fn every_event_reaches_the_agent() {
    let agent = Recorder::serve().await;
    let pool = pool_with(one_connection(), &agent.path).await;
    let (id, other) = ("c-1", "c-2");

    let answer = pool.send_request_headers("agent", id, &request(id)).await;
    answer.unwrap();
    assert_eq!(pool.correlation_affinity_count(), 1);
    let chunk: RequestBodyChunkEvent = BinaryRequestBodyChunkEvent::new(id, "x", 0, false).into();
    let answer = pool.send_request_body_chunk("agent", id, &chunk).await;
    answer.unwrap();
    let chunk = BinaryRequestBodyChunkEvent::new(id, Bytes::from_static(b"x"), 1, true);
    let answer = pool.send_request_body_chunk_binary("agent", &chunk).await;
    answer.unwrap();
    let answer = pool.send_response_headers("agent", id, &response(id)).await;
    answer.unwrap();
    let chunk: ResponseBodyChunkEvent = BinaryResponseBodyChunkEvent::new(id, "x", 0, false).into();
    let answer = pool.send_response_body_chunk("agent", id, &chunk).await;
    answer.unwrap();
    let chunk = BinaryResponseBodyChunkEvent::new(id, Bytes::from_static(b"x"), 1, true);
    let answer = pool.send_response_body_chunk_binary("agent", &chunk).await;
    answer.unwrap();
    let answer = pool.send_websocket_frame("agent", id, &frame(id)).await;
    answer.unwrap();
    let answer = pool.send_request_complete("agent", id, &complete(id)).await;
    answer.unwrap();
    assert_eq!(pool.correlation_affinity_count(), 0, "the request is over");
    let prompt = prompt(other);
    let answer = pool.send_guardrail_inspect("agent", other, &prompt).await;
    answer.unwrap();

    assert_eq!(
        agent.take(),
        [
            "request headers c-1",
            "request body c-1",
            "request body c-1",
            "response headers c-1",
            "response body c-1",
            "response body c-1",
            "frame c-1",
            "complete c-1",
            "prompt c-2",
        ]
    );
    let snapshot = pool.protocol_metrics().snapshot();
    assert_eq!(snapshot.requests_total, 9);
    assert_eq!(pool.protocol_metrics_arc().snapshot().requests_total, 9);
}

#[tokio::test]
async fn affinities_are_cleared_and_limited() {
    let agent = Recorder::serve().await;
    let config = AgentPoolConfig {
        max_correlation_affinities: 2,
        ..one_connection()
    };
    let pool = pool_with(config, &agent.path).await;
    for id in ["a", "b", "c"] {
        pool.send_request_headers("agent", id, &request(id))
            .await
            .unwrap();
    }
    assert_eq!(pool.correlation_affinity_count(), 2);
    assert_eq!(pool.correlation_affinity_rejections(), 1);

    pool.clear_correlation_affinity("a");
    assert_eq!(pool.correlation_affinity_count(), 1);
    assert_eq!(pool.correlation_affinity_evictions(), 0);
}

#[tokio::test]
async fn settings_are_sent_to_the_agent() {
    let agent = Recorder::serve().await;
    let pool = pool_with(one_connection(), &agent.path).await;

    let accepted = pool.configure_agent("agent", json!({"a": 1}), Some("v1".to_owned()));
    assert_eq!(accepted.await.unwrap(), 1);
    assert_fails!(
        pool.configure_agent("agent", json!(false), None).await,
        Error::ConnectionFailed(_)
    );
    assert_eq!(agent.take(), [r#"configure {"a":1}"#, "configure false"]);

    for settings in [json!("text"), json!({"config": "text"})] {
        pool.send_configure("agent", "c-1", &settings)
            .await
            .unwrap();
        assert_eq!(agent.take(), [r#"configure "text""#]);
    }
}

#[tokio::test]
async fn agent_is_asked_to_drain_and_to_shut_down() {
    let agent = Recorder::serve().await;
    let pool = pool_with(one_connection(), &agent.path).await;

    let asked = pool.send_drain("agent", 1500, DrainReason::Maintenance);
    assert!(asked.await.unwrap());
    let asked = pool.send_shutdown("agent", ShutdownReason::Upgrade, 2500);
    assert!(asked.await.unwrap());

    eventually("the agent is asked", async || {
        agent.has_seen("drain 1500 Maintenance") && agent.has_seen("shutdown 2500 Upgrade")
    })
    .await;
}

#[tokio::test]
async fn pending_call_is_cancelled() {
    let agent = Recorder::serve().await;
    let pool = pool_with(one_connection(), &agent.path).await;
    let call = tokio::spawn({
        let pool = pool.clone();
        async move {
            let chunk = BinaryRequestBodyChunkEvent::new("c-1", "wait", 0, true);
            pool.send_request_body_chunk_binary("agent", &chunk).await
        }
    });
    eventually("the event arrives", async || {
        agent.has_seen("request body c-1")
    })
    .await;

    pool.cancel_request("agent", "c-1", CancelReason::ProxyShutdown)
        .await
        .unwrap();
    assert_fails!(call.await.unwrap(), Error::ConnectionFailed(_));
    eventually("the agent is told", async || {
        agent.has_seen("cancel c-1 ProxyShutdown")
    })
    .await;
}

#[tokio::test]
async fn config_updates_are_pushed() {
    let agent = Recorder::serve().await;
    let pool = pool_with(one_connection(), &agent.path).await;
    let pushed = r#"configure {"type":"request_reload"}"#;

    assert!(
        pool.push_config_to_agent("unknown", ConfigUpdateType::RequestReload)
            .is_none()
    );
    let push = pool.push_config_to_agent("agent", ConfigUpdateType::RequestReload);
    assert!(push.is_some());
    eventually("the update arrives", async || agent.has_seen(pushed)).await;
    agent.take();

    let pushes = pool.push_config_to_all(ConfigUpdateType::RequestReload);
    assert_eq!(pushes.len(), 1);
    eventually("the update arrives", async || agent.has_seen(pushed)).await;
    eventually("the answers arrive", async || {
        pool.config_pusher_arc().pending_count() == 0
    })
    .await;
    // Nothing is pending, so this changes nothing.
    pool.acknowledge_config_push(&pushes[0], false, None);
    assert_eq!(pool.config_pusher().pending_count(), 0);
}

#[tokio::test]
async fn reported_metrics_are_exported() {
    let pool = AgentPool::new();
    let report = MetricsReport {
        counters: vec![CounterMetric::new("agent_scans_total", 7)],
        ..MetricsReport::new("agent", 10_000)
    };
    pool.metrics_collector_arc().record(&report);

    let exported = pool.export_prometheus();
    assert!(exported.contains("agent_scans_total"), "{exported}");
    assert_eq!(pool.metrics_collector().snapshot().counter_count(), 1);
}
