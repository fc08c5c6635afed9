//! Every path, field, variant and signature that the Zentinel proxy, `zentinel-agent-sdk` and the
//! agents outside use, each used once as they use it. A change that breaks them does not compile.

use async_trait::async_trait;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use std::collections::HashMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use zentinel_agent_protocol::v2::client::{CancelReason, MetricsCallback};
use zentinel_agent_protocol::v2::pool::CHANNEL_BUFFER_SIZE;
use zentinel_agent_protocol::v2::protocol_metrics::ProtocolMetrics;
use zentinel_agent_protocol::v2::reverse::ReverseConnectionConfig;
use zentinel_agent_protocol::v2::server::{AgentHandlerV2, GrpcAgentServerV2};
use zentinel_agent_protocol::v2::uds::{
    AgentClientV2Uds, MessageType, UdsCapabilities, UdsEncoding, UdsFeatures, UdsHandshakeRequest,
    UdsHandshakeResponse, UdsLimits, read_message, write_message,
};
use zentinel_agent_protocol::v2::uds_server::UdsAgentServerV2;
use zentinel_agent_protocol::v2::{
    AgentCapabilities, AgentClientV2, AgentFeatures, AgentLimits, AgentPool, AgentPoolConfig,
    AgentPoolStats, ConfigPusher, ConfigUpdateType, CounterMetric, DEFAULT_CONNECT_TIMEOUT,
    DrainReason, GaugeMetric, HandshakeRequest, HandshakeResponse, HealthConfig, HealthState,
    HealthStatus, LoadBalanceStrategy, LoadMetrics, MetricsCollector, MetricsReport,
    PROTOCOL_VERSION_2, ShutdownReason, UnifiedMetricsAggregator,
};
use zentinel_agent_protocol::{
    AgentProtocolError as Error, AgentResponse, AuditMetadata, BodyMutation, Decision,
    DetectionSeverity, EventType, GuardrailDetection, GuardrailInspectEvent,
    GuardrailInspectionType, GuardrailResponse, HeaderOp, RequestBodyChunkEvent,
    RequestCompleteEvent, RequestHeadersEvent, RequestMetadata, ResponseBodyChunkEvent,
    ResponseHeadersEvent, TextSpan, WebSocketDecision, WebSocketFrameEvent,
};

type Answer = Result<AgentResponse, Error>;
type Headers = HashMap<String, Vec<String>>;

/// The proxy turns events into values and back, and shares them between threads.
fn is_event<E: Serialize + DeserializeOwned + Clone + std::fmt::Debug + Send + Sync>() {}

/// The proxy wraps errors, and searches their text.
fn is_error<E: std::error::Error + Send + Sync + 'static>() {}

fn is_plain<T: Clone + std::fmt::Debug + PartialEq>() {}

#[test]
fn types_have_the_traits_that_generic_code_needs() {
    is_event::<RequestHeadersEvent>();
    is_event::<RequestBodyChunkEvent>();
    is_event::<ResponseHeadersEvent>();
    is_event::<ResponseBodyChunkEvent>();
    is_event::<RequestCompleteEvent>();
    is_event::<WebSocketFrameEvent>();
    is_event::<GuardrailInspectEvent>();
    is_event::<AgentResponse>();
    is_event::<HandshakeRequest>();
    is_event::<HandshakeResponse>();
    is_error::<Error>();
    is_plain::<Decision>();
    is_plain::<HeaderOp>();
    is_plain::<BodyMutation>();
    is_plain::<WebSocketDecision>();
    is_plain::<AuditMetadata>();
    is_plain::<CancelReason>();
    is_plain::<DrainReason>();
    is_plain::<ShutdownReason>();
}

#[test]
fn answers_are_made_by_the_published_functions_and_literals() {
    let allow: fn() -> AgentResponse = AgentResponse::default_allow;
    let block: fn(u16, Option<String>) -> AgentResponse = AgentResponse::block;
    let redirect: fn(String, u16) -> AgentResponse = AgentResponse::redirect;
    let close: fn(u16, String) -> AgentResponse = AgentResponse::websocket_close;
    let more: fn(AgentResponse, bool) -> AgentResponse = AgentResponse::set_needs_more;
    let header: [fn(AgentResponse, HeaderOp) -> AgentResponse; 2] = [
        AgentResponse::add_request_header,
        AgentResponse::add_response_header,
    ];
    let audited: fn(AgentResponse, AuditMetadata) -> AgentResponse = AgentResponse::with_audit;
    let mutated: [fn(AgentResponse, BodyMutation) -> AgentResponse; 2] = [
        AgentResponse::with_request_body_mutation,
        AgentResponse::with_response_body_mutation,
    ];
    let decided: fn(AgentResponse, WebSocketDecision) -> AgentResponse =
        AgentResponse::with_websocket_decision;
    let remove = HeaderOp::Remove {
        name: "x".to_owned(),
    };
    let written = AgentResponse {
        version: 2,
        decision: Decision::Allow,
        request_headers: vec![remove.clone()],
        response_headers: vec![remove.clone()],
        routing_metadata: HashMap::new(),
        audit: AuditMetadata {
            tags: vec!["tag".to_owned()],
            rule_ids: Vec::new(),
            confidence: None,
            reason_codes: Vec::new(),
            custom: HashMap::from([("key".to_owned(), Value::Null)]),
        },
        needs_more: true,
        request_body_mutation: Some(BodyMutation::drop_chunk(0)),
        response_body_mutation: Some(BodyMutation::pass_through(1)),
        websocket_decision: Some(WebSocketDecision::Allow),
    };
    let mut made = more(allow(), true);
    made = header[0](made, remove.clone());
    made = header[1](made, remove);
    made = audited(made, written.audit.clone());
    made = mutated[0](made, BodyMutation::drop_chunk(0));
    made = mutated[1](made, BodyMutation::pass_through(1));
    assert_eq!(decided(made, WebSocketDecision::Allow), written);
    assert!(matches!(
        block(403, None).decision,
        Decision::Block {
            status: 403,
            body: None,
            headers: None
        }
    ));
    let moved = redirect("/login".to_owned(), 302).decision;
    assert!(matches!(moved, Decision::Redirect { url, status: 302 } if url == "/login"));
    assert!(matches!(
        close(1008, "no".to_owned()).websocket_decision,
        Some(WebSocketDecision::Close { code: 1008, reason }) if reason == "no"
    ));
    let drops = AgentResponse::websocket_drop().websocket_decision;
    assert_eq!(drops, Some(WebSocketDecision::Drop));
    assert!(
        AgentResponse::websocket_allow()
            .websocket_decision
            .is_some()
    );
    assert!(AgentResponse::needs_more_data().needs_more);
    let replace: fn(u32, String) -> BodyMutation = BodyMutation::replace;
    let replaced = replace(2, "data".to_owned());
    assert!(!replaced.is_drop() && !replaced.is_pass_through());
    assert_eq!(replaced.data.as_deref(), Some("data"));
}

#[test]
fn errors_have_the_published_variants_and_texts() {
    let timeout = Error::Timeout(Duration::from_secs(1)).to_string();
    assert!(timeout.contains("Timeout"), "{timeout}");
    // Matched without a wildcard: the enum is not `#[non_exhaustive]`.
    let name = |error: Error| match error {
        Error::ConnectionFailed(_) => "ConnectionFailed",
        Error::ConnectionClosed => "ConnectionClosed",
        Error::VersionMismatch {
            expected: _,
            actual: _,
        } => "VersionMismatch",
        Error::MessageTooLarge { size: _, max: _ } => "MessageTooLarge",
        Error::InvalidMessage(_) => "InvalidMessage",
        Error::Timeout(_) => "Timeout",
        Error::Unavailable => "Unavailable",
        Error::Io(_) => "Io",
        Error::Serialization(_) => "Serialization",
        Error::WrongConnectionType(_) => "WrongConnectionType",
        Error::FlowControlPaused { agent_id: _ } => "FlowControlPaused",
    };
    assert_eq!(name(Error::ConnectionClosed), "ConnectionClosed");
    assert_eq!(name(std::io::Error::other("x").into()), "Io");
}

#[test]
fn events_are_written_as_literals() {
    let metadata = RequestMetadata {
        correlation_id: "c".to_owned(),
        request_id: "r".to_owned(),
        client_ip: "192.0.2.7".to_owned(),
        client_port: 1,
        server_name: None,
        protocol: "HTTP/2".to_owned(),
        tls_version: None,
        tls_cipher: None,
        route_id: None,
        upstream_id: None,
        timestamp: "2026-01-02T03:04:05Z".to_owned(),
        traceparent: None,
    };
    let head = RequestHeadersEvent {
        metadata,
        method: "GET".to_owned(),
        uri: "/".to_owned(),
        headers: Headers::new(),
    };
    let value = serde_json::to_value(&head).unwrap();
    let again: RequestHeadersEvent = serde_json::from_value(value).unwrap();
    assert_eq!(again.metadata.client_ip, "192.0.2.7");
    let inspect = GuardrailInspectEvent {
        correlation_id: "c".to_owned(),
        inspection_type: GuardrailInspectionType::PiiDetection,
        content: "text".to_owned(),
        model: None,
        categories: Vec::new(),
        route_id: None,
        metadata: HashMap::new(),
    };
    assert_ne!(
        inspect.inspection_type,
        GuardrailInspectionType::PromptInjection
    );
    let detection = GuardrailDetection {
        category: "pii".to_owned(),
        description: "an address".to_owned(),
        severity: DetectionSeverity::High,
        confidence: Some(0.9),
        span: Some(TextSpan { start: 0, end: 4 }),
    };
    let found = GuardrailResponse {
        detected: true,
        confidence: 0.9,
        detections: vec![detection],
        redacted_content: None,
    };
    assert_ne!(found, GuardrailResponse::default());
    let kinds = [
        EventType::Configure,
        EventType::RequestHeaders,
        EventType::RequestBodyChunk,
        EventType::ResponseHeaders,
        EventType::ResponseBodyChunk,
        EventType::RequestComplete,
        EventType::WebSocketFrame,
        EventType::GuardrailInspect,
    ];
    assert_eq!(kinds.len(), 8);
}

#[test]
fn agents_announce_and_report_with_literals() {
    let capabilities = AgentCapabilities::new("id", "name", "1.0.0")
        .with_event(EventType::RequestHeaders)
        .with_limits(AgentLimits::default())
        .with_features(AgentFeatures {
            streaming_body: true,
            websocket: false,
            guardrails: false,
            config_push: true,
            metrics_export: true,
            concurrent_requests: 10,
            cancellation: false,
            flow_control: false,
            health_reporting: true,
        });
    assert!(capabilities.supports_event(EventType::RequestHeaders));
    let HealthConfig {
        report_interval_ms, ..
    } = capabilities.health;
    assert!(report_interval_ms > 0);
    let uds: UdsCapabilities = capabilities.clone().into();
    let UdsCapabilities {
        features, limits, ..
    } = &uds;
    let (UdsFeatures { .. }, UdsLimits { .. }) = (features, limits);
    assert_eq!(AgentCapabilities::from(uds).features, capabilities.features);
    let mut status = HealthStatus::healthy("id");
    status.load = Some(LoadMetrics::default());
    assert!(matches!(status.state, HealthState::Healthy) && status.is_healthy());
    assert!(!HealthStatus::degraded("id", vec!["x".to_owned()], 1.5).is_healthy());
    assert!(!HealthStatus::unhealthy("id", "broken", true).is_healthy());
    let mut report = MetricsReport::new("id", 1000);
    report.counters.push(CounterMetric::new("requests", 1));
    report.gauges.push(GaugeMetric::new("load", 0.5));
    assert!(!report.is_empty());
    assert_eq!(PROTOCOL_VERSION_2, 2);
    assert_eq!(DEFAULT_CONNECT_TIMEOUT, Duration::from_secs(5));
    assert_eq!(CHANNEL_BUFFER_SIZE, 64);
    assert!(!ReverseConnectionConfig::default().require_auth);
    let ids = [
        DrainReason::ConfigReload,
        DrainReason::Maintenance,
        DrainReason::HealthCheckFailed,
        DrainReason::Manual,
    ];
    assert_eq!(ids.len(), 4);
}

#[test]
fn proxy_exports_its_metrics_with_the_published_names() {
    let metrics = UnifiedMetricsAggregator::new("zentinel", "node-1");
    let labels = || HashMap::from([("route".to_owned(), "api".to_owned())]);
    metrics.increment_counter("requests_total", "Requests.", labels(), 3);
    metrics.set_gauge("connections", "Connections.", labels(), 2.0);
    metrics.observe_histogram("seconds", "Time.", labels(), &[0.1, 1.0], 0.5);
    let page = metrics.export_prometheus();
    for line in [
        "zentinel_info{instance=\"node-1\",service=\"zentinel\"} 1",
        "requests_total{route=\"api\"} 3",
        "connections{route=\"api\"} 2",
        "seconds_bucket{route=\"api\",le=\"1\"} 1",
        "# Agent metrics",
    ] {
        assert!(
            page.lines().any(|found| found == line),
            "{line} is not in\n{page}"
        );
    }
    for n in 0..10_001 {
        let label = HashMap::from([("n".to_owned(), n.to_string())]);
        metrics.increment_counter("many_total", "Many.", label, 1);
    }
    assert_eq!(
        metrics.series_count(),
        10_004,
        "the proxy's own series are not limited"
    );
}

/// Uses the pool as the proxy does, and checks the types of all results.
async fn use_pool(pool: Arc<AgentPool>, head: &RequestHeadersEvent) -> Result<(), Error> {
    let _: () = pool.add_agent("id", "unix:/s").await?;
    let _: () = pool
        .add_agent_with_config("id", "unix:/s", None::<Value>)
        .await?;
    let _: Option<AgentCapabilities> = pool.agent_capabilities("id").await;
    let _: Option<AgentPoolStats> = pool.agent_stats("id").await;
    let _: () = pool
        .cancel_request("id", "c", CancelReason::Timeout)
        .await?;
    let _: () = pool.clear_correlation_affinity("c");
    let _: &ConfigPusher = pool.config_pusher();
    let _: &MetricsCollector = pool.metrics_collector();
    let _: Arc<MetricsCollector> = pool.metrics_collector_arc();
    let _: &ProtocolMetrics = pool.protocol_metrics();
    let _: String = pool.export_prometheus() + &pool.metrics_collector().export_prometheus();
    let _: bool = pool.is_agent_healthy("id");
    let _: Option<String> = pool.push_config_to_agent("id", ConfigUpdateType::RequestReload);
    let _: Answer = pool.send_request_headers("id", "c", head).await;
    let _: () = pool.remove_agent("id").await?;
    Ok(())
}

/// Uses a client on a Unix socket as tests do.
async fn use_client(path: PathBuf, head: &RequestHeadersEvent) -> Result<(), Error> {
    let path = path.display().to_string();
    let mut client: AgentClientV2Uds =
        AgentClientV2Uds::new("id", path, Duration::from_millis(1)).await?;
    client.set_config(None);
    client.set_connect_timeout(DEFAULT_CONNECT_TIMEOUT);
    let callback: MetricsCallback = Arc::new(|_: MetricsReport| {});
    client.set_metrics_callback(callback);
    let _: () = client.connect().await?;
    let _: Answer = client.send_request_headers("c", head).await;
    let _: Answer = client.send_configure("c", &Value::Null).await;
    client.close().await
}

#[tokio::test]
async fn pool_and_clients_have_the_published_signatures() {
    let strategies = [
        LoadBalanceStrategy::RoundRobin,
        LoadBalanceStrategy::LeastConnections,
        LoadBalanceStrategy::HealthBased,
        LoadBalanceStrategy::Random,
    ];
    let config = AgentPoolConfig {
        connections_per_agent: 1,
        load_balance_strategy: strategies[0],
        connect_timeout: Duration::from_millis(50),
        request_timeout: Duration::from_millis(50),
        reconnect_interval: Duration::from_secs(1),
        max_reconnect_attempts: 3,
        drain_timeout: Duration::from_secs(1),
        max_concurrent_per_connection: 100,
        health_check_interval: Duration::from_secs(10),
        ..Default::default()
    };
    let pool = Arc::new(AgentPool::with_config(config));
    let maintained = Arc::clone(&pool);
    let maintenance = tokio::spawn(async move { maintained.run_maintenance().await });
    let head = super::events::request("c");
    // The agent is not there: adding it succeeds, and so does cancelling its request.
    use_pool(pool, &head).await.unwrap();
    assert!(
        use_client("/nonexistent/agent.sock".into(), &head)
            .await
            .is_err()
    );
    let client = AgentClientV2::new("id", "http://127.0.0.1:9", Duration::from_millis(50)).await;
    assert!(client.unwrap().connect().await.is_err());
    maintenance.abort();
}

struct Plain;

#[async_trait]
impl AgentHandlerV2 for Plain {
    fn capabilities(&self) -> AgentCapabilities {
        AgentCapabilities::new("plain", "Plain", "1.0.0")
    }
}

#[tokio::test]
async fn handlers_are_called_directly_and_served_in_tasks() {
    let handler: Box<dyn AgentHandlerV2> = Box::new(Plain);
    let head = super::events::request("c");
    assert_eq!(
        handler.on_request_headers(head).await.decision,
        Decision::Allow
    );
    assert!(handler.on_configure(Value::Null, None).await);
    assert!(handler.health_status().is_healthy());
    assert!(handler.metrics_report().is_none());
    handler.on_drain(1, DrainReason::Manual).await;
    handler.on_shutdown(ShutdownReason::Graceful, 1).await;
    handler.on_stream_closed().await;
    let hello = handler
        .on_handshake(HandshakeRequest::new("proxy", "1.0.0"))
        .await;
    assert!(hello.success);

    let dir = tempfile::tempdir().unwrap();
    let server = UdsAgentServerV2::new("plain", dir.path().join("s"), handler);
    let on_socket = tokio::spawn(async move { server.run().await });
    let address: SocketAddr = ([127, 0, 0, 1], 0).into();
    let on_grpc = tokio::spawn(GrpcAgentServerV2::new("plain", Box::new(Plain)).run(address));
    tokio::task::yield_now().await;
    assert!(!on_socket.is_finished() && !on_grpc.is_finished());
    on_socket.abort();
    on_grpc.abort();
}

#[tokio::test]
async fn agents_speak_the_protocol_themselves() {
    let (mut proxy, mut agent) = tokio::io::duplex(1024);
    let request = UdsHandshakeRequest {
        supported_versions: vec![2],
        proxy_id: "proxy".to_owned(),
        proxy_version: "1.0.0".to_owned(),
        config: None,
        supported_encodings: vec![UdsEncoding::MessagePack, UdsEncoding::Json],
    };
    let payload = UdsEncoding::Json.serialize(&request).unwrap();
    write_message(&mut proxy, MessageType::HandshakeRequest, &payload)
        .await
        .unwrap();
    let (kind, payload) = read_message(&mut agent).await.unwrap();
    assert_eq!(kind, MessageType::HandshakeRequest);
    let read: UdsHandshakeRequest = UdsEncoding::Json.deserialize(&payload).unwrap();
    assert_eq!(read.supported_encodings, request.supported_encodings);
    let response = UdsHandshakeResponse {
        protocol_version: 2,
        capabilities: Plain.capabilities().into(),
        success: true,
        error: None,
        encoding: UdsEncoding::Json,
    };
    assert!(UdsEncoding::Json.serialize(&response).is_ok());
    drop(proxy);
    assert!(matches!(
        read_message(&mut agent).await,
        Err(Error::ConnectionClosed)
    ));
}

#[test]
fn patch_has_the_name_the_version_and_the_features_of_the_published_crate() {
    let manifest = include_str!("../../patch/Cargo.toml");
    for line in [
        r#"name = "zentinel-agent-protocol""#,
        r#"version = "0.6.54""#,
        r#"binary-uds = ["tollgate_zentinel/binary-uds"]"#,
        r#"mmap-buffers = ["tollgate_zentinel/mmap-buffers"]"#,
    ] {
        assert!(manifest.lines().any(|found| found == line), "{line}");
    }
}
