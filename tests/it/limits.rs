//! Slots, wait queues, deadlines, and the limits that an agent announces.

use crate::common::{
    BOTH, arrived, call, calls_made, config, configure, eventually, raw_pool, raw_pool_of,
    raw_pool_with, request, result_of, status_of,
};
use serde_json::json;
use std::time::{Duration, Instant};
use tollgate::{
    AgentPoolConfig, AgentResponse, CallError as Error, Encoding, EventTimeouts, EventType,
    events::{
        GuardrailInspectEvent, GuardrailInspectionType, RequestBodyChunkEvent, ResponseHeadersEvent,
    },
};

fn one_slot() -> AgentPoolConfig {
    config(Encoding::Json).max_concurrent_per_connection(1)
}

#[tokio::test]
async fn waiting_for_a_slot_has_its_own_timeout() {
    let queue_timeout = Duration::from_millis(50);
    let config = one_slot().queue_timeout(queue_timeout);
    let (_agent, pool, mut connection) = raw_pool(config).await;

    let first = arrived(&pool, &mut connection, "first").await;
    let started = Instant::now();
    let waited = result_of(call(&pool, "second")).await;
    assert!(
        matches!(waited, Err(Error::QueueTimeout { after, .. }) if after == queue_timeout),
        "{waited:?}"
    );
    assert!(started.elapsed() >= queue_timeout && started.elapsed() < Duration::from_secs(1));

    connection.block("first", 418).await;
    assert_eq!(status_of(first).await, 418);
    crate::common::expect_works(&pool, &mut connection, "third").await;

    let calls = pool.agent("agent").unwrap().stats().calls;
    assert_eq!(
        (calls.queue_timed_out, calls.answered, calls.made),
        (1, 2, 3)
    );
}

#[tokio::test]
async fn number_of_waiting_calls_is_limited() {
    let config = one_slot().max_queued_calls(5);
    let (_agent, pool, mut connection) = raw_pool(config).await;

    let first = arrived(&pool, &mut connection, "first").await;
    let waiting: Vec<_> = (0..5).map(|n| call(&pool, &n.to_string())).collect();
    eventually("five wait", async || calls_made(&pool).await == 6).await;

    for n in 5..10 {
        let rejected = result_of(call(&pool, &n.to_string())).await;
        assert_fails!(rejected, Error::QueueFull { limit: 5, .. });
    }

    connection.allow("first").await;
    result_of(first).await.unwrap();
    for (n, call) in waiting.into_iter().enumerate() {
        let id = n.to_string();
        assert_eq!(connection.event().await, id, "out of order");
        connection.allow(&id).await;
        result_of(call).await.unwrap();
    }
}

#[tokio::test]
async fn waiting_call_takes_the_first_free_slot() {
    let config = one_slot().connections_per_agent(2);
    for freed in 0..2 {
        let (_agent, pool, mut connections) = raw_pool_of(config.clone()).await;

        let _busy = [call(&pool, "busy-1"), call(&pool, "busy-2")];
        let mut ids = Vec::new();
        for connection in &mut connections {
            ids.push(connection.event().await);
        }

        let waiting = call(&pool, "waiting");
        eventually("the call waits", async || calls_made(&pool).await == 3).await;
        connections[freed].allow(&ids[freed]).await;
        assert_eq!(connections[freed].event().await, "waiting");
        connections[freed].block("waiting", 418).await;
        assert_eq!(status_of(waiting).await, 418);
    }
}

#[tokio::test]
async fn each_event_type_has_its_own_timeout() {
    let short = Duration::from_millis(30);
    let config = config(Encoding::Json)
        .event_timeouts(EventTimeouts::default().with(EventType::ResponseHeaders, short));
    let (_agent, pool, mut connection) = raw_pool(config).await;
    let agent = pool.agent("agent").unwrap();

    let long = arrived(&pool, &mut connection, "c-1").await;
    let response = ResponseHeadersEvent {
        correlation_id: "c-2".into(),
        status: 200,
        headers: [].into(),
    };

    let timed_out = agent.send("c-2", &response).await;
    assert!(matches!(timed_out, Err(Error::Timeout { after, .. }) if after == short));
    let timed_out = agent
        .send("c-3", &request("c-3", "/"))
        .timeout(short * 2)
        .await;
    assert!(matches!(timed_out, Err(Error::Timeout { after, .. }) if after == short * 2));

    let mut exchange = agent.exchange("c-4").unwrap();
    let timed_out = exchange.send(&response).await;
    assert!(matches!(timed_out, Err(Error::Timeout { after, .. }) if after == short));
    drop(exchange);
    let mut exchange = agent.exchange("c-5").unwrap();
    let timed_out = exchange.send(&request("c-5", "/")).timeout(short * 3).await;
    assert!(matches!(timed_out, Err(Error::Timeout { after, .. }) if after == short * 3));

    connection.block("c-1", 418).await;
    assert_eq!(status_of(long).await, 418);
}

#[tokio::test]
async fn inspections_are_refused_by_an_agent_that_does_not_declare_them() {
    let folder = tempfile::tempdir().unwrap();
    let capabilities = tollgate::AgentCapabilities::new("agent", "Agent", "1");
    let handler = tollgate::handler_fn(capabilities, |_| async { AgentResponse::default_allow() });
    let (path, _) = crate::common::serve_handler(Encoding::Json, &folder, handler).await;
    let pool = crate::common::pool_with(config(Encoding::Json), &path).await;
    let guardrail = GuardrailInspectEvent {
        correlation_id: "c-1".into(),
        inspection_type: GuardrailInspectionType::PiiDetection,
        content: "text".into(),
        model: None,
        categories: Vec::new(),
        route_id: None,
        metadata: [].into(),
    };
    let agent = pool.agent("agent").unwrap();
    let refused = agent.send("c-1", &guardrail).await;
    assert!(
        matches!(refused, Err(Error::Undeclared { .. })),
        "{refused:?}"
    );
    // The agent refuses them from a proxy that asks all the same.
    let mut proxy = crate::common::RawConnection::connect_in(&path, Encoding::Json).await;
    let event = json!({
        "correlation_id": "c-2", "inspection_type": "pii_detection", "content": "text",
        "model": null, "categories": null, "route_id": null, "metadata": null,
    });
    proxy
        .send_value(crate::common::message::GUARDRAIL_INSPECT, &event)
        .await;
    let (_, answer) = proxy.message().await;
    assert_eq!(answer["decision"]["block"]["status"], 500, "{answer}");
    let codes = &answer["audit"]["reason_codes"];
    assert_eq!(*codes, json!(["agent_error", "undeclared"]));
}

#[tokio::test]
async fn body_limits_of_agents_are_enforced_unless_that_is_off() {
    for enforce in [true, false] {
        let config = config(Encoding::Json).enforce_body_limits(enforce);
        let capabilities = tollgate::AgentCapabilities::new("agent", "Agent", "1");
        let capabilities = capabilities.with_limits(tollgate::control::AgentLimits {
            max_body_size: 3,
            ..tollgate::control::AgentLimits::default()
        });
        let folder = tempfile::tempdir().unwrap();
        let handler =
            tollgate::handler_fn(capabilities, |_| async { AgentResponse::default_allow() });
        let (path, _) = crate::common::serve_handler(Encoding::Json, &folder, handler).await;
        let pool = crate::common::pool_with(config, &path).await;
        let agent = pool.agent("agent").unwrap();
        let chunk = RequestBodyChunkEvent::new("c-1", "four", 0, true);
        let sent = agent.send("c-1", &chunk).await;
        let is_refused = matches!(sent, Err(Error::MessageTooLarge { max: 3, .. }));
        assert_eq!(is_refused, enforce, "{sent:?}");
    }
}

#[tokio::test]
async fn unsubscribed_events_can_be_skipped() {
    for encoding in BOTH {
        let config = config(encoding).skip_unsubscribed_events(true);

        // The agent asks for request headers and request body chunks.
        let (_agent, pool, mut connection) = raw_pool(config).await;
        let agent = pool.agent("agent").unwrap();
        let response = ResponseHeadersEvent {
            correlation_id: "c-1".into(),
            status: 200,
            headers: [].into(),
        };
        let guardrail = GuardrailInspectEvent {
            correlation_id: "c-1".into(),
            inspection_type: GuardrailInspectionType::PiiDetection,
            content: "text".into(),
            model: None,
            categories: Vec::new(),
            route_id: None,
            metadata: [].into(),
        };

        let allow = AgentResponse::default_allow();
        let answer = agent.send("c-1", &response).await.unwrap();
        assert_eq!(answer, allow);
        assert_eq!(agent.send("c-1", &guardrail).await.unwrap(), allow);

        let mut exchange = agent.exchange("c-2").unwrap();
        exchange.push(&response).await.unwrap();
        assert_eq!(exchange.next_answer().await.unwrap().unwrap(), allow);
        assert_eq!(exchange.send(&response).await.unwrap(), allow);
        assert_eq!(connection.sync().await, [0; 0], "the agent was contacted");
        crate::common::expect_works(&pool, &mut connection, "c-3").await;

        let settings = configure("c-4", json!({"config": {}}));
        let (configured, ()) = tokio::join!(agent.send("c-4", &settings), async {
            assert_eq!(connection.event().await, "c-4");
            connection.allow("c-4").await;
        });
        configured.unwrap();

        let calls = agent.stats().calls;
        assert_eq!((calls.skipped, calls.answered, calls.made), (4, 2, 6));
    }
}

#[tokio::test]
async fn bodies_above_the_agents_limit_are_rejected() {
    let change = |response: &mut serde_json::Value| {
        response["capabilities"]["limits"]["max_body_size"] = json!(1_000);
    };
    let (_agent, pool, mut connections) = raw_pool_with(config(Encoding::Json), change).await;
    let agent = pool.agent("agent").unwrap();

    let mut connection = connections.remove(0);
    let chunk = |size: usize, so_far: usize, total: Option<usize>| RequestBodyChunkEvent {
        bytes_received: so_far,
        total_size: total,
        ..RequestBodyChunkEvent::new("c-1", vec![0; size], 0, false)
    };
    for too_large in [
        chunk(1_001, 0, None),
        chunk(1, 1_001, None),
        chunk(1, 1, Some(1_001)),
    ] {
        assert_fails!(
            agent.send("c-1", &too_large).await,
            Error::MessageTooLarge { max: 1_000, .. }
        );
    }

    let fitting = chunk(1_000, 1_000, Some(1_000));
    let (sent, ()) = tokio::join!(agent.send("c-1", &fitting), async {
        assert_eq!(connection.event().await, "c-1");
        connection.allow("c-1").await;
    });
    sent.unwrap();
    let stats = agent.stats();
    assert_eq!((stats.calls.too_large, stats.total_in_flight), (3, 0));
}

#[tokio::test]
async fn agents_concurrency_limit_is_kept() {
    let change = |response: &mut serde_json::Value| {
        response["capabilities"]["limits"]["max_concurrency"] = json!(2);
    };
    let (_agent, pool, mut connections) = raw_pool_with(config(Encoding::Json), change).await;
    let mut connection = connections.remove(0);

    let calls: Vec<_> = (0..6).map(|n| call(&pool, &n.to_string())).collect();
    for _ in 0..3 {
        let ids = [connection.event().await, connection.event().await];
        assert_eq!(connection.sync().await, [0; 0], "a third event came");
        for id in ids {
            connection.allow(&id).await;
        }
    }

    for call in calls {
        result_of(call).await.unwrap();
    }
}
