//! Handshakes and registrations field by field, and what the two sides agree on in them.

use crate::common::{
    BOTH, Proxy, RawAgent, RawConnection, accept_handshake, config, message, offer_handshake,
    registration, serve,
};
use serde_json::{Value, json};
use tempfile::TempDir;
use tollgate::{
    AgentCapabilities, AgentConfig, AgentHandler, AgentPool, AgentServer, AgentServerBuilder,
    Encoding, EventType,
};

/// An agent with the default features and limits.
struct Plain;

impl AgentHandler for Plain {
    fn capabilities(&self) -> AgentCapabilities {
        AgentCapabilities::new("a", "A", "1").with_event(EventType::Configure)
    }
}

fn capabilities() -> Value {
    json!({
        "agent_id": "a", "name": "A", "version": "1", "supported_events": [1, 8],
        "features": {
            "streaming_body": false, "websocket": false, "guardrails": false,
            "config_push": false, "metrics_export": false, "concurrent_requests": 0,
            "cancellation": false, "flow_control": false, "health_reporting": false,
        },
        "limits": {
            "max_body_size": 10_485_760, "max_concurrency": 100, "preferred_chunk_size": 65_536,
        },
    })
}

#[tokio::test]
async fn handshake_response_has_every_field_that_other_proxies_require() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("agent.sock");
    let server = AgentServer::builder(Plain).listen(path.display().to_string());
    tokio::spawn(server.bind().await.unwrap().serve());

    let mut proxy = RawConnection::connect(&path).await;
    let offer = offer_handshake("msgpack");
    proxy.send_value(message::HANDSHAKE_REQUEST, &offer).await;

    let expected = json!({
        "protocol_version": 2, "capabilities": capabilities(), "success": true, "error": null,
        "encoding": "msgpack",
    });
    assert_eq!(proxy.message().await.1, expected);
}

#[tokio::test]
async fn extension_is_used_if_both_sides_support_a_version() {
    let agent = serve().await;
    for (versions, chosen) in [
        (json!([1]), Some(1)),
        (json!([2]), Some(2)),
        (json!([3, 2, 1]), Some(2)),
        (json!([1, 2]), Some(1)),
        (json!([3]), None),
        (json!([]), None),
    ] {
        let mut proxy = RawConnection::connect(&agent.path).await;
        let mut offer = offer_handshake("json");
        offer["tollgate"] = json!({"versions": versions});
        proxy.send_value(message::HANDSHAKE_REQUEST, &offer).await;
        let (_, response) = proxy.message().await;
        let expected = chosen.map(|version| json!({"version": version}));
        assert_eq!(response.get("tollgate"), expected.as_ref(), "{versions}");
    }
}

#[tokio::test]
async fn handshake_response_without_an_encoding_means_json() {
    let agent = RawAgent::listen();
    let pool = AgentPool::with_config(config(Encoding::MessagePack));
    let accept = async {
        let mut connection = agent.accept().await;
        connection.message().await;
        let mut response = accept_handshake("json");
        response.as_object_mut().unwrap().remove("encoding");
        response["capabilities"]["supported_events"] = json!([0, 1, 8, 99]);
        connection
            .send_value(message::HANDSHAKE_RESPONSE, &response)
            .await;
        connection
    };
    let endpoint = agent.path.display().to_string();
    let config = AgentConfig::new("agent", endpoint).require_connection();
    let (added, _connection) = tokio::join!(pool.add(config), accept);

    let agent = added.unwrap();
    assert_eq!(agent.encoding(), Some(Encoding::Json));
    let events = agent.capabilities().unwrap().supported_events;
    assert_eq!(events, [EventType::Configure, EventType::RequestHeaders]);
}

/// Dials from an agent that is changed by `configure` and has a token. Returns the connection and
/// the registration that the agent sends.
async fn dialed(
    proxy: &RawAgent,
    configure: impl FnOnce(AgentServerBuilder<Plain>) -> AgentServerBuilder<Plain>,
) -> (RawConnection, Value) {
    let dialer = AgentServer::builder(Plain)
        .token("secret")
        .dial_connections(1)
        .dial(proxy.path.display().to_string());
    tokio::spawn(configure(dialer).serve());
    let mut connection = proxy.accept().await;
    let (message, request) = connection.message().await;
    assert_eq!(message, message::HANDSHAKE_REQUEST);
    (connection, request)
}

#[tokio::test]
async fn registration_has_the_fields_of_the_protocol() {
    let proxy = RawAgent::listen();
    let (_connection, request) = dialed(&proxy, |dialer| dialer).await;
    let expected = json!({
        "protocol_version": 2, "agent_id": "a", "capabilities": capabilities(),
        "auth_token": "secret", "metadata": null,
        "tollgate": {
            "versions": [2, 1], "encodings": ["msgpack", "json"],
            "shared_memory": {"versions": [1], "bytes": 65_536},
        },
    });
    assert_eq!(request, expected);
}

#[tokio::test]
async fn choice_that_was_not_offered_ends_the_connection() {
    for choice in [
        json!({"version": 1, "encoding": "msgpack"}),
        json!({"version": 3}),
    ] {
        let proxy = RawAgent::listen();
        let json_only = |dialer: AgentServerBuilder<Plain>| dialer.encodings([Encoding::Json]);
        let (mut connection, _) = dialed(&proxy, json_only).await;
        let response = json!({"success": true, "tollgate": choice});
        connection
            .send_value(message::HANDSHAKE_RESPONSE, &response)
            .await;
        connection.expect_end().await;
    }
}

/// Listens for agents. Negotiates as a pool with these encodings does.
async fn listen(encodings: &[Encoding]) -> (Proxy, TempDir) {
    let folder = tempfile::tempdir().unwrap();
    let mut config = config(Encoding::Json);
    config.encodings = encodings.to_vec();
    (Proxy::listen_as(&folder, config, |_| {}).await, folder)
}

/// Registers with this offer. Returns the response.
async fn offer(proxy: &Proxy, offer: Option<Value>) -> Value {
    let mut request = registration("agent", None);
    if let Some(offer) = offer {
        request["tollgate"] = offer;
    }
    RawConnection::register(proxy.path(), &request).await.1
}

#[tokio::test]
async fn registration_response_has_the_fields_of_the_protocol() {
    let (proxy, _folder) = listen(&BOTH).await;
    for without in [
        None,
        Some(json!(null)),
        Some(json!({})),
        Some(json!({"versions": [7], "encodings": ["msgpack"]})),
    ] {
        let mut response = offer(&proxy, without).await;
        let ids = ["proxy_id", "connection_id"].map(|id| response[id].take());
        assert!(ids.iter().all(Value::is_string), "{ids:?}");
        let expected = json!({
            "success": true, "error": null, "proxy_id": null, "connection_id": null,
            "proxy_version": env!("CARGO_PKG_VERSION"),
        });
        assert_eq!(response, expected);
    }
}

#[tokio::test]
async fn first_encoding_of_a_registration_that_the_proxy_accepts_is_chosen() {
    for (versions, version) in [(json!([1]), 1), (json!([2, 1]), 2), (json!([3, 1, 2]), 1)] {
        let both = json!({"versions": versions, "encodings": ["cbor", "msgpack", "json"]});
        for (accepted, expected) in [(&BOTH[..], "msgpack"), (&[Encoding::Json], "json")] {
            let (proxy, _folder) = listen(accepted).await;
            let response = offer(&proxy, Some(both.clone())).await;
            let choice = json!({"version": version, "encoding": expected});
            assert_eq!(response["tollgate"], choice);
        }
    }
}

#[tokio::test]
async fn registration_may_have_any_metadata_and_lack_optional_fields() {
    let (proxy, _folder) = listen(&BOTH).await;
    let mut requests = vec![json!({
        "protocol_version": 2, "agent_id": "bare", "capabilities": {},
    })];
    for metadata in [json!({"zone": ["a", 1]}), json!("text")] {
        let mut request = registration("agent", None);
        request["metadata"] = metadata;
        requests.push(request);
    }
    for request in requests {
        let (_, response) = RawConnection::register(proxy.path(), &request).await;
        assert_eq!(response["success"], true, "{request}");
    }
}
