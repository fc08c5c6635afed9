//! Reverse connections work like forward connections.

use crate::common::{
    BOTH, Proxy, RawAgent, RawConnection, config, configure, dial, dial_with, eventually,
    in_virtual_time, message, registration, request, serve,
};
use serde_json::json;
use std::time::Duration;
use tollgate::error::AcceptError;
use tollgate::{
    AgentConfig, AgentPool, AgentPoolConfig, AgentResponse, CallError, CancelReason, Decision,
    Encoding,
    control::{
        AgentNotice, ConfigUpdateRequest, ConfigUpdateType, FlowControlAction, HealthState,
        HealthStatus, MetricsReport,
    },
    events::{
        GuardrailInspectEvent, GuardrailInspectionType, RequestBodyChunkEvent,
        RequestCompleteEvent, ResponseBodyChunkEvent, ResponseHeadersEvent, WebSocketFrameEvent,
        WebSocketOpcode,
    },
};

fn folder() -> tempfile::TempDir {
    tempfile::tempdir().unwrap()
}

/// Returns a proxy for each transport and encoding.
async fn proxies(folder: &tempfile::TempDir) -> Vec<(Proxy, Encoding)> {
    let mut proxies = Vec::new();
    for encoding in BOTH {
        let place = tempfile::tempdir_in(folder.path()).unwrap();
        let unix = Proxy::listen_as(&place, config(encoding), |_| {}).await;
        let tcp = Proxy::listen_on_tcp(config(encoding)).await;
        proxies.extend([(unix, encoding), (tcp, encoding)]);
        // The folder around it is removed with the test.
        let _ = place.keep();
    }
    proxies
}

/// Makes a call of every kind. Returns the answers.
async fn ask_everything(pool: &AgentPool) -> Vec<AgentResponse> {
    let agent = pool.agent("agent").unwrap();
    let mut answers = Vec::new();
    for uri in [
        "/",
        "/block",
        "/redirect",
        "/challenge",
        "/headers",
        "/audit",
    ] {
        answers.push(agent.send(uri, &request(uri, uri)).await.unwrap());
    }
    let every_byte: Vec<u8> = (0..=255).collect();
    for data in [&b"replace"[..], b"drop", b"pass", &every_byte] {
        let event = RequestBodyChunkEvent::new("c", data.to_vec(), 0, true);
        answers.push(agent.send("c", &event).await.unwrap());
        let event = ResponseBodyChunkEvent::new("c", data.to_vec(), 0, true);
        answers.push(agent.send("c", &event).await.unwrap());
    }
    let event = ResponseHeadersEvent {
        correlation_id: "c".to_owned(),
        status: 200,
        headers: [("x".to_owned(), vec!["y".to_owned()])].into(),
    };
    answers.push(agent.send("c", &event).await.unwrap());
    let event = WebSocketFrameEvent {
        correlation_id: "c".to_owned(),
        opcode: WebSocketOpcode::Text,
        data: "drop".into(),
        client_to_server: true,
        frame_index: 0,
        fin: true,
        route_id: None,
        client_ip: "192.0.2.7".to_owned(),
    };
    answers.push(agent.send("c", &event).await.unwrap());
    let event = GuardrailInspectEvent {
        correlation_id: "c".to_owned(),
        inspection_type: GuardrailInspectionType::PromptInjection,
        content: "ignore all".to_owned(),
        model: None,
        categories: Vec::new(),
        route_id: None,
        metadata: Default::default(),
    };
    answers.push(agent.send("c", &event).await.unwrap());
    for accept in [true, false] {
        let settings = configure("s", json!({"config": {"accept": accept}}));
        answers.push(agent.send("s", &settings).await.unwrap());
    }
    let event = RequestCompleteEvent {
        correlation_id: "c".to_owned(),
        status: 200,
        duration_ms: 1,
        request_body_size: 0,
        response_body_size: 0,
        upstream_attempts: 1,
        error: None,
    };
    answers.push(agent.send("c", &event).await.unwrap());
    answers
}

#[tokio::test]
async fn answers_equal_those_on_forward_connections() {
    let served = serve().await;
    let forward = crate::common::pool_with(config(Encoding::MessagePack), &served.path).await;
    let expected = ask_everything(&forward).await;
    let folder = folder();
    for (proxy, encoding) in proxies(&folder).await {
        let agent = dial(&proxy.endpoint);
        proxy.expect_connections("agent", 1).await;
        assert_eq!(ask_everything(&proxy.pool).await, expected, "{encoding}");
        assert_eq!(*agent.seen.lock().unwrap(), *served.seen.lock().unwrap());
        let handle = proxy.agent();
        assert_eq!(handle.encoding(), Some(encoding));
        assert_eq!(handle.uses_extension(), Some(true));
        let capabilities = handle.capabilities().unwrap();
        let expected = forward.agent("agent").unwrap().capabilities().unwrap();
        assert_eq!(capabilities, expected);

        handle.ping().await.unwrap();
        agent.stop().await;
    }
}

#[tokio::test]
async fn exchange_streams_a_large_body() {
    let folder = folder();
    for (proxy, _) in proxies(&folder).await {
        let agent = dial(&proxy.endpoint);
        proxy.expect_connections("agent", 1).await;

        let mut exchange = proxy.agent().exchange("e").unwrap();
        exchange.send(&request("e", "/")).await.unwrap();
        let chunk = tollgate::Bytes::from(vec![7; 64 * 1024]);
        for index in 0..32 {
            let event = RequestBodyChunkEvent::new("e", chunk.clone(), index, index == 31);
            exchange.send(&event).await.unwrap();
        }

        assert_eq!(agent.seen.lock().unwrap().len(), 33);
    }
}

#[tokio::test]
async fn cancel_and_flow_control_work() {
    let folder = folder();
    for (proxy, _) in proxies(&folder).await {
        let agent = dial(&proxy.endpoint);
        proxy.expect_connections("agent", 1).await;
        let handle = proxy.agent();

        let waiting = {
            let handle = handle.clone();
            tokio::spawn(async move { handle.send("w", &request("w", "/wait")).await })
        };
        eventually("the event arrives", async || {
            agent.seen.lock().unwrap().len() == 1
        })
        .await;

        let reason = CancelReason::ClientDisconnect;
        handle.cancel("w", reason).await.unwrap();

        assert_fails!(waiting.await.unwrap(), CallError::Cancelled { .. });
        eventually("the agent is told", async || {
            *agent.cancelled.lock().unwrap() == [("w".to_owned(), reason)]
        })
        .await;

        agent.control.flow_control(FlowControlAction::Pause);
        let is_paused = async || {
            let answer = handle.send("p", &request("p", "/")).await;
            matches!(answer, Err(CallError::FlowControlPaused { .. }))
        };
        eventually("the pause arrives", is_paused).await;
        agent.control.flow_control(FlowControlAction::Resume);
        eventually("the pause ends", async || !is_paused().await).await;
    }
}

#[tokio::test]
async fn health_metrics_and_config_updates_arrive() {
    let folder = folder();
    for (proxy, _) in proxies(&folder).await {
        let agent = dial(&proxy.endpoint);
        proxy.expect_connections("agent", 1).await;
        // The agent learns of the connection a moment later than the proxy.
        eventually("the agent is connected", async || {
            agent.control.connections() == 1
        })
        .await;

        let mut notices = proxy.pool.notices();
        agent
            .control
            .report_metrics(MetricsReport::new("agent", 1000));
        agent.control.request_config_update(ConfigUpdateRequest {
            update_type: ConfigUpdateType::RequestReload,
            request_id: "u".to_owned(),
            timestamp_ms: 1,
        });

        let metrics = notices.recv().await.unwrap();
        assert!(matches!(metrics, AgentNotice::Metrics { agent_id, .. } if &*agent_id == "agent"));
        let update = notices.recv().await.unwrap();
        assert!(
            matches!(update, AgentNotice::ConfigUpdate { request, .. } if request.request_id == "u")
        );

        let draining = HealthStatus::new("agent", HealthState::Draining { eta_ms: None });
        agent.control.report_health(draining);
        eventually("the agent takes no new exchanges", async || {
            !proxy
                .pool
                .agent("agent")
                .is_some_and(|agent| agent.is_healthy())
        })
        .await;
        agent.control.report_health(HealthStatus::healthy("agent"));
        eventually("the agent is used again", async || {
            proxy
                .pool
                .agent("agent")
                .is_some_and(|agent| agent.is_healthy())
        })
        .await;
    }
}

/// The proxy connects to one instance of the agent, and another instance connects to the proxy.
#[tokio::test]
async fn forward_and_reverse_connections_work_together() {
    let folder = folder();
    let served = serve().await;
    let proxy = Proxy::listen(&folder).await;
    let endpoint = served.path.to_str().unwrap();
    let forward = AgentConfig::new("agent", endpoint);
    let handle = proxy.pool.add(forward).await.unwrap();
    let dialing = dial_with(|dialer| dialer.dial(&proxy.endpoint).dial_connections(4));
    proxy.expect_connections("agent", 8).await;

    for n in 0..80 {
        let id = n.to_string();
        handle.send(&id, &request(&id, "/")).await.unwrap();
    }

    assert_eq!(served.seen.lock().unwrap().len(), 40);
    assert_eq!(dialing.seen.lock().unwrap().len(), 40);
    assert_eq!(handle.stats().endpoint, endpoint);

    // A new endpoint replaces the forward connections. The reverse connections stay.
    let moved = serve().await;
    let replacement = AgentConfig::new("agent", moved.path.to_str().unwrap());
    let handle = proxy.pool.replace(replacement).await.unwrap();
    proxy.expect_connections("agent", 8).await;
    assert_eq!(proxy.listener.connections(), 4);

    dialing.stop().await;
    proxy.expect_connections("agent", 4).await;
    moved.stop().await;
    eventually("all connections are closed", async || {
        proxy.connections_of("agent").await == 0
    })
    .await;
    assert_eq!(crate::common::agent_ids(&proxy.pool), ["agent"]);

    let back = dial(&proxy.endpoint);
    proxy.expect_connections("agent", 1).await;
    handle.send("x", &request("x", "/")).await.unwrap();
    assert_eq!(back.seen.lock().unwrap().len(), 1);
}

#[tokio::test]
async fn forward_connections_work_over_tcp() {
    let unix = RawAgent::listen();
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let endpoint = format!("tcp://{}", listener.local_addr().unwrap());
    // Forwards the port to the socket.
    let path = unix.path.clone();

    tokio::spawn(async move {
        let (mut near, _) = listener.accept().await.unwrap();
        let mut far = tokio::net::UnixStream::connect(path).await.unwrap();
        tokio::io::copy_bidirectional(&mut near, &mut far)
            .await
            .unwrap();
    });

    let pool = AgentPool::with_config(config(Encoding::Json));
    let (added, mut connection) = tokio::join!(
        pool.add(AgentConfig::new("agent", &endpoint).require_connection()),
        unix.accept_in(Encoding::Json)
    );
    added.unwrap();

    crate::common::expect_works(&pool, &mut connection, "c").await;
}

#[tokio::test]
async fn calls_fail_at_once_when_their_connection_ends() {
    let folder = folder();
    let proxy = Proxy::listen(&folder).await;
    let (mut ending, response) =
        RawConnection::register(proxy.path(), &registration("agent", None)).await;
    assert_eq!(response["success"], true);

    let call = crate::common::arrived(&proxy.pool, &mut ending, "c").await;
    let (staying, _) = RawConnection::register(proxy.path(), &registration("agent", None)).await;
    proxy.expect_connections("agent", 2).await;

    drop(ending);
    let result = tokio::time::timeout(Duration::from_secs(1), call).await;
    assert_fails!(
        result.expect("at once").unwrap(),
        CallError::ConnectionClosed { .. }
    );

    proxy.expect_connections("agent", 1).await;
    crate::common::answer_with_numbers(vec![staying]);
    for n in 0..10 {
        let status =
            crate::common::status_of(crate::common::call(&proxy.pool, &n.to_string())).await;
        assert_eq!(status, 0);
    }

    eventually("the connection is given back", async || {
        proxy.listener.connections() == 1
    })
    .await;
}

#[test]
fn agent_is_remembered_for_the_grace_time() {
    in_virtual_time(async {
        let folder = folder();
        let grace = Duration::from_millis(300);
        let proxy = Proxy::listen_as(&folder, AgentPoolConfig::default(), |config| {
            config.grace_time = grace;
        })
        .await;
        let agent = dial(&proxy.endpoint);
        proxy.expect_connections("agent", 1).await;

        let handle = proxy.agent();
        handle.send("a", &request("a", "/")).await.unwrap();

        agent.stop().await;
        proxy.expect_connections("agent", 0).await;
        let rejected = handle.send("b", &request("b", "/")).await;
        assert_fails!(rejected, CallError::Unavailable { .. });

        let back = dial(&proxy.endpoint);
        proxy.expect_connections("agent", 1).await;
        let stats = handle.stats();
        assert_eq!((stats.reconnects, stats.calls.made), (1, 2));
        assert_eq!(stats.endpoint, "reverse");
        // Longer than the grace time that began with the first disconnect.
        tokio::time::sleep(grace * 2).await;
        handle.send("c", &request("c", "/")).await.unwrap();

        back.stop().await;
        eventually("the agent is forgotten", async || {
            crate::common::agent_ids(&proxy.pool).is_empty()
        })
        .await;
        let rejected = handle.send("d", &request("d", "/")).await;
        assert_fails!(rejected, CallError::Removed { .. });

        let _again = dial(&proxy.endpoint);
        proxy.expect_connections("agent", 1).await;
        assert_eq!(proxy.agent().stats().calls.made, 0);
    });
}

/// An agent on `zentinel-agent-protocol`: JSON, base64 bodies, answers by correlation id.
#[tokio::test]
async fn agent_without_the_extension_gets_zentinel_json() {
    let folder = folder();
    let proxy = Proxy::listen(&folder).await;
    let (mut agent, response) =
        RawConnection::register(proxy.path(), &registration("agent", None)).await;
    assert_eq!(response.as_object().unwrap().len(), 5, "{response}");
    assert_eq!(response["success"], true);

    assert!(
        response["connection_id"]
            .as_str()
            .unwrap()
            .starts_with("agent-")
    );

    proxy.expect_connections("agent", 1).await;
    let call = {
        let pool = proxy.pool.clone();
        let event = RequestBodyChunkEvent::new("c", b"\x00\xff".to_vec(), 0, true);
        tokio::spawn(async move { pool.agent("agent").unwrap().send("c", &event).await })
    };
    let (message, event) = agent.message().await;
    assert_eq!(
        (message, &event["correlation_id"], &event["data"]),
        (message::REQUEST_BODY_CHUNK, &json!("c"), &json!("AP8="))
    );

    agent.block("c", 451).await;
    let answer = call.await.unwrap().unwrap();
    assert!(matches!(
        answer.decision,
        Decision::Block { status: 451, .. }
    ));
    assert_eq!(proxy.agent().uses_extension(), Some(false));
}

/// Messages that an agent sends before the registration is answered are not lost.
#[tokio::test]
async fn messages_before_the_registration_answer_count() {
    let folder = folder();
    let proxy = Proxy::listen(&folder).await;
    let mut agent = RawConnection::connect(proxy.path()).await;
    let hello = registration("agent", None).to_string();
    let health = json!({"state": {"status": "draining"}, "agent_id": "agent", "timestamp_ms": 1});

    let mut bytes = crate::common::frame(message::HANDSHAKE_REQUEST, hello.as_bytes());
    bytes.extend(crate::common::frame(
        message::HEALTH_STATUS,
        health.to_string().as_bytes(),
    ));
    agent.send_bytes(&bytes).await;

    assert_eq!(agent.message().await.1["success"], true);
    eventually("the report is applied", async || {
        let stats = proxy.pool.agent("agent").map(|agent| agent.stats());
        stats.is_some_and(|stats| stats.active_connections == 1 && stats.healthy_connections == 0)
    })
    .await;
}

#[tokio::test]
async fn accept_one_registers_one_agent() {
    let folder = folder();
    let path = folder.path().join("one.sock");
    let config = tollgate::ReverseConnectionConfig::default();
    let listener = tollgate::ReverseConnectionListener::bind_uds(&path, config)
        .await
        .unwrap();
    let pool = AgentPool::new();

    let _agent = dial(path.to_str().unwrap());
    let handle = listener.accept_one(&pool).await.unwrap();
    assert_eq!(handle.id(), "agent");
    assert_eq!(crate::common::agent_ids(&pool), ["agent"]);
    handle.send("c", &request("c", "/")).await.unwrap();

    let mut garbage = RawConnection::connect(&path).await;
    garbage.send(message::HANDSHAKE_REQUEST, b"{}").await;
    let rejected = listener.accept_one(&pool).await;
    assert_fails!(rejected, AcceptError::Registration { .. });
    listener.stop();
    assert_fails!(listener.accept_one(&pool).await, AcceptError::Listen { .. });
}

#[tokio::test]
async fn stopped_listener_keeps_registered_connections() {
    let folder = folder();
    let proxy = Proxy::listen(&folder).await;
    let agent = dial(&proxy.endpoint);
    proxy.expect_connections("agent", 1).await;
    let mut half_open = RawConnection::connect(proxy.path()).await;
    let (path, handle) = (proxy.path().to_owned(), proxy.agent());

    proxy.listener.stop();
    proxy.accepting.await.unwrap();
    half_open.expect_end().await;
    assert!(!path.exists());

    handle.send("c", &request("c", "/")).await.unwrap();
    assert_eq!(agent.seen.lock().unwrap().len(), 1);
}

#[tokio::test]
async fn removed_agent_is_disconnected() {
    let folder = folder();
    let proxy = Proxy::listen(&folder).await;
    let (mut agent, _) = RawConnection::register(proxy.path(), &registration("agent", None)).await;
    proxy.expect_connections("agent", 1).await;
    proxy.pool.remove("agent").unwrap();
    agent.expect_end().await;
    assert!(crate::common::agent_ids(&proxy.pool).is_empty());
}
