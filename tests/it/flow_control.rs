//! Flow control: every way of sending observes a pause.

use crate::common::{
    BOTH, CallResult, RawConnection, arrived, call, calls_made, config, configure, eventually,
    expect_works, faults, message, raw_pool, raw_pool_of, request, result_of, status_of,
};
use bytes::Bytes;
use serde_json::{Value, json};
use std::collections::HashMap;
use tollgate::{
    AgentPool, CallError as Error, Encoding, Metadata, RequestHeaders,
    events::{
        GuardrailInspectEvent, GuardrailInspectionType, RequestBodyChunkEvent,
        RequestCompleteEvent, ResponseBodyChunkEvent, ResponseHeadersEvent, WebSocketFrameEvent,
        WebSocketOpcode,
    },
};

/// Sends an event in every way. Returns the name and result of each.
async fn send_in_every_way(pool: &AgentPool, id: &str) -> [(&'static str, CallResult); 9] {
    let owned_id = id.to_owned();
    let head = request(id, "/");
    let request_chunk = RequestBodyChunkEvent::new(id, Bytes::from_static(b"a"), 0, true);
    let response_chunk = ResponseBodyChunkEvent::new(id, Bytes::from_static(b"a"), 0, true);
    let response = ResponseHeadersEvent {
        correlation_id: owned_id.clone(),
        status: 200,
        headers: HashMap::new(),
    };
    let complete = RequestCompleteEvent {
        correlation_id: owned_id.clone(),
        status: 200,
        duration_ms: 1,
        request_body_size: 0,
        response_body_size: 0,
        upstream_attempts: 1,
        error: None,
    };
    let websocket = WebSocketFrameEvent {
        correlation_id: owned_id.clone(),
        opcode: WebSocketOpcode::Text,
        data: Bytes::new(),
        client_to_server: true,
        frame_index: 0,
        fin: true,
        route_id: None,
        client_ip: "::1".to_owned(),
    };
    let inspect = GuardrailInspectEvent {
        correlation_id: owned_id,
        inspection_type: GuardrailInspectionType::PiiDetection,
        content: "text".to_owned(),
        model: None,
        categories: Vec::new(),
        route_id: None,
        metadata: HashMap::new(),
    };
    let borrowed = RequestHeaders {
        metadata: Metadata::default(),
        method: "GET",
        uri: "/",
        headers: &[("host", "example.com")][..],
    };
    let agent = pool.agent("agent").unwrap();
    let settings = configure(id, json!({"config": {}}));
    [
        ("borrowed", agent.send(id, &borrowed).await),
        ("request headers", agent.send(id, &head).await),
        ("request chunk", agent.send(id, &request_chunk).await),
        ("response headers", agent.send(id, &response).await),
        ("response chunk", agent.send(id, &response_chunk).await),
        ("request complete", agent.send(id, &complete).await),
        ("websocket frame", agent.send(id, &websocket).await),
        ("guardrail inspect", agent.send(id, &inspect).await),
        ("configure", agent.send(id, &settings).await),
    ]
}

async fn expect_paused(pool: &AgentPool, connection: &mut RawConnection, id: &str) {
    for (way, result) in send_in_every_way(pool, id).await {
        assert!(
            matches!(result, Err(Error::FlowControlPaused { .. })),
            "{way}: {result:?}"
        );
    }
    assert_eq!(
        connection.sync().await,
        [0; 0],
        "something was sent in spite of the pause"
    );
}

async fn expect_flowing(pool: &AgentPool, connection: &mut RawConnection, id: &str) {
    let answering = async {
        for _ in 0..9 {
            assert_eq!(connection.event().await, id);
            connection.allow(id).await;
        }
    };
    let (results, ()) = tokio::join!(send_in_every_way(pool, id), answering);
    for (way, result) in results {
        assert!(result.is_ok(), "{way}: {result:?}");
    }
}

async fn send_flow(connection: &mut RawConnection, flow: &Value) {
    connection.send_value(message::FLOW_CONTROL, flow).await;
    connection.sync().await;
}

fn full(correlation_id: Option<&str>, action: Value) -> Value {
    json!({"correlation_id": correlation_id, "action": action, "timestamp_ms": 1})
}

#[tokio::test]
async fn pause_applies_to_every_way_of_sending() {
    let pauses = [
        json!({"action": 1}),
        full(None, json!({"type": "pause"})),
        json!({"action": {"type": "pause"}}),
        full(
            None,
            json!({"type": "update_capacity", "buffer_available": 0}),
        ),
    ];
    let resumes = [
        json!({"action": 2}),
        full(None, json!({"type": "resume"})),
        json!({"action": {"type": "resume"}}),
        full(
            None,
            json!({"type": "update_capacity", "buffer_available": 5}),
        ),
    ];
    for encoding in BOTH {
        let (_agent, pool, mut connection) = raw_pool(config(encoding)).await;
        for (pause, resume) in pauses.iter().zip(&resumes) {
            send_flow(&mut connection, pause).await;
            expect_paused(&pool, &mut connection, "c-1").await;
            send_flow(&mut connection, resume).await;
            expect_flowing(&pool, &mut connection, "c-1").await;
        }
        assert_eq!(faults(&pool).await.undecodable_messages, 0);
    }
}

#[tokio::test]
async fn single_exchange_can_be_paused() {
    for encoding in BOTH {
        let (_agent, pool, mut connection) = raw_pool(config(encoding)).await;
        for resumed in [Some("c-1"), None] {
            send_flow(
                &mut connection,
                &full(Some("c-1"), json!({"type": "pause"})),
            )
            .await;
            expect_paused(&pool, &mut connection, "c-1").await;
            expect_flowing(&pool, &mut connection, "c-2").await;
            send_flow(&mut connection, &full(resumed, json!({"type": "resume"}))).await;
            expect_flowing(&pool, &mut connection, "c-1").await;
        }
    }
}

#[tokio::test]
async fn json_flow_control_works_on_messagepack_connections() {
    let (_agent, pool, mut connection) = raw_pool(config(Encoding::MessagePack)).await;
    connection
        .send(message::FLOW_CONTROL, br#"{"action":1}"#)
        .await;
    connection.sync().await;
    expect_paused(&pool, &mut connection, "c-1").await;
    connection
        .send(message::FLOW_CONTROL, br#" {"action":{"type":"resume"}}"#)
        .await;
    connection.sync().await;
    expect_flowing(&pool, &mut connection, "c-1").await;
}

#[tokio::test]
async fn unknown_flow_control_action_changes_nothing() {
    for encoding in BOTH {
        let (_agent, pool, mut connection) = raw_pool(config(encoding)).await;
        for flow in [
            json!({"action": 0}),
            json!({"action": 3}),
            full(None, json!({"type": "stop"})),
        ] {
            send_flow(&mut connection, &flow).await;
        }
        expect_works(&pool, &mut connection, "c-1").await;
        assert_eq!(faults(&pool).await.undecodable_messages, 3);
    }
}

#[tokio::test]
async fn calls_in_flight_are_answered_during_a_pause() {
    for encoding in BOTH {
        let (_agent, pool, mut connection) = raw_pool(config(encoding)).await;
        let pending = arrived(&pool, &mut connection, "c-1").await;
        send_flow(&mut connection, &json!({"action": 1})).await;

        connection.block("c-1", 418).await;
        assert_eq!(status_of(pending).await, 418);
    }
}

#[tokio::test]
async fn paused_connection_is_skipped() {
    let connections_per_agent = 2;
    let config = config(Encoding::Json).connections_per_agent(connections_per_agent);
    let (_agent, pool, mut connections) = raw_pool_of(config).await;

    send_flow(&mut connections[0], &json!({"action": 1})).await;
    for n in 0..5 {
        expect_works(&pool, &mut connections[1], &n.to_string()).await;
    }
    connections[0].expect_silence();

    send_flow(&mut connections[1], &json!({"action": 1})).await;
    assert_fails!(
        result_of(call(&pool, "c-1")).await,
        Error::FlowControlPaused { .. }
    );

    send_flow(&mut connections[0], &json!({"action": 2})).await;
    expect_works(&pool, &mut connections[0], "c-1").await;
}

#[tokio::test]
async fn call_that_waited_for_a_slot_observes_a_new_pause() {
    let config = config(Encoding::Json).max_concurrent_per_connection(1);
    let (_agent, pool, mut connection) = raw_pool(config).await;
    let first = arrived(&pool, &mut connection, "c-1").await;

    let second = call(&pool, "c-2");
    connection.sync().await;

    send_flow(&mut connection, &json!({"action": 1})).await;
    connection.block("c-1", 418).await;
    assert_eq!(status_of(first).await, 418);

    assert_fails!(result_of(second).await, Error::FlowControlPaused { .. });
    assert_eq!(
        connection.sync().await,
        [0; 0],
        "something was sent in spite of the pause"
    );
}

#[tokio::test]
async fn call_that_waits_for_a_slot_takes_that_of_a_resumed_connection() {
    let config = config(Encoding::Json)
        .connections_per_agent(2)
        .max_concurrent_per_connection(1);
    let (_agent, pool, mut connections) = raw_pool_of(config).await;
    send_flow(&mut connections[1], &json!({"action": 1})).await;
    let first = arrived(&pool, &mut connections[0], "c-1").await;
    let second = call(&pool, "c-2");
    eventually("the call waits", async || calls_made(&pool).await == 2).await;

    let resume = json!({"action": 2});
    connections[1]
        .send_value(message::FLOW_CONTROL, &resume)
        .await;
    assert_eq!(connections[1].event().await, "c-2");
    connections[1].allow("c-2").await;
    result_of(second).await.unwrap();
    connections[0].allow("c-1").await;
    result_of(first).await.unwrap();
}
