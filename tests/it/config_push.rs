//! Settings and updates reach agents: before anything else, in order and again after a failure. The
//! pool knows their outcome.

use crate::common::*;
use serde_json::{Value, json};
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tollgate::{
    AgentCapabilities, AgentConfig, AgentHandler, AgentPool, AgentResponse, CallError, Encoding,
    FailureMode, RequestHeadersView,
    config_push::{ConfigPusher, ConfigPusherConfig, PushStatus},
    control::{AgentFeatures, ConfigUpdateType, DrainReason, ShutdownReason},
    events::Configure,
};

/// Records what it is told, and rejects lists called "rejected".
#[derive(Default)]
struct Recorder {
    told: Arc<Mutex<Vec<String>>>,
}

impl Recorder {
    fn note(&self, what: impl Into<String>) {
        self.told.lock().unwrap().push(what.into());
    }
}

impl AgentHandler for Recorder {
    fn capabilities(&self) -> AgentCapabilities {
        AgentCapabilities::new("scribe", "Recorder", "1").with_features(AgentFeatures {
            config_push: true,
            ..AgentFeatures::default()
        })
    }

    async fn on_request_headers(&self, event: RequestHeadersView<'_>) -> AgentResponse {
        self.note(event.uri);
        AgentResponse::default_allow()
    }

    async fn on_configure(&self, event: Configure<'_>) -> Result<(), String> {
        let is_accepted = match event.update() {
            Some(ConfigUpdateType::ListUpdate { list_id, add, .. }) => {
                self.note(format!("{list_id} {add:?}"));
                list_id != "rejected"
            }
            Some(other) => panic!("{other:?}"),
            None => {
                let config = event.config().unwrap();
                self.note(format!("{config} {:?}", event.config_version()));
                config != "rejected"
            }
        };
        is_accepted
            .then_some(())
            .ok_or_else(|| "Configuration rejected".to_owned())
    }

    fn on_drain(&self, duration_ms: u64, reason: DrainReason) {
        self.note(format!("drain {duration_ms} {reason:?}"));
    }

    fn on_shutdown(&self, reason: ShutdownReason, grace_period_ms: u64) {
        self.note(format!("shutdown {reason:?} {grace_period_ms}"));
    }
}

struct Served {
    path: PathBuf,
    told: Arc<Mutex<Vec<String>>>,
    _dir: tempfile::TempDir,
}

impl Served {
    async fn start() -> Self {
        Self::speaking(Encoding::MessagePack).await
    }

    async fn speaking(encoding: Encoding) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let scribe = Recorder::default();
        let told = Arc::clone(&scribe.told);
        let (path, _) = serve_handler(encoding, &dir, scribe).await;
        Self {
            path,
            told,
            _dir: dir,
        }
    }

    fn told(&self) -> Vec<String> {
        std::mem::take(&mut *self.told.lock().unwrap())
    }
}

fn list(list_id: &str, entry: usize) -> ConfigUpdateType {
    ConfigUpdateType::ListUpdate {
        list_id: list_id.to_owned(),
        add: vec![entry.to_string()],
        remove: Vec::new(),
    }
}

fn with_retries(max_retries: usize) -> ConfigPusherConfig {
    ConfigPusherConfig::default()
        .ack_timeout(Duration::from_millis(50))
        .max_retries(max_retries)
        .retry_interval(Duration::from_millis(10))
}

fn status(pusher: &ConfigPusher, push_id: &str) -> (PushStatus, usize) {
    let results = pusher.get_results();
    let result = results.iter().find(|result| result.push_id == push_id);
    let result = result.expect("a result");
    (result.status.clone(), result.attempts)
}

async fn wait_for_pushes(pool: &AgentPool) {
    eventually("every push is finished", async || {
        pool.config_pusher().pending_count() == 0
    })
    .await;
}

/// Receives the settings in the next message, and answers with an allow or a block.
async fn take_settings(connection: &mut RawConnection, allow: bool) -> Value {
    let (message, settings) = connection.message().await;
    assert_eq!(message, message::CONFIGURE);
    let id = settings["correlation_id"].as_str().unwrap();
    if allow {
        connection.allow(id).await;
    } else {
        connection.block(id, 500).await;
    }
    settings
}

/// Announces that the agent takes pushes, and accepts the extension.
fn take_pushes(response: &mut Value) {
    announce_pushes(response);
    response["tollgate"] = json!({"version": 1});
}

/// Announces that the agent takes pushes, as agents on `zentinel-agent-protocol` do.
fn announce_pushes(response: &mut Value) {
    response["capabilities"]["features"]["config_push"] = json!(true);
}

#[tokio::test]
async fn settings_are_the_first_message_of_a_connection() {
    for use_extension in [true, false] {
        let agent = Served::start().await;
        let pool =
            AgentPool::with_config(config(Encoding::MessagePack).use_extension(use_extension));
        let absent = pool.add(AgentConfig::reverse("agent")).await.unwrap();
        let version = Some("7".to_owned());
        let told = absent.configure(json!({"a": 1}), version).await;
        assert_eq!(told.unwrap(), 0);

        let path = agent.path.to_str().unwrap();
        let connected = AgentConfig::new("agent", path).require_connection();
        let handle = pool.replace(connected).await.unwrap();
        let event = request("1", "/first");
        handle.send("1", &event).await.unwrap();
        assert_eq!(agent.told(), ["{\"a\":1} Some(\"7\")", "/first"]);

        let told = handle.configure(json!([2]), None).await;
        assert_eq!(told.unwrap(), 1);
        assert_eq!(agent.told(), ["[2] None"]);

        let rejected = handle.configure(json!("rejected"), None).await;
        let Err(CallError::SettingsRefused { agent_id, reason }) = rejected else {
            panic!("{rejected:?}");
        };
        assert_eq!((&*agent_id, &*reason), ("agent", "Configuration rejected"));
        assert_eq!(handle.settings().unwrap()["config"], json!([2]));

        handle.remove().unwrap();
        assert_eq!(handle.settings(), None);
    }
}

#[tokio::test]
async fn reverse_agent_gets_settings_before_events() {
    let folder = tempfile::tempdir().unwrap();
    let proxy = Proxy::listen(&folder).await;

    let agent = proxy.pool.add(AgentConfig::reverse("waf")).await.unwrap();
    let told = agent.configure(json!({"a": 1}), None).await;
    assert_eq!(told.unwrap(), 0);

    let registered = RawConnection::register(proxy.path(), &registration("waf", None)).await;
    let (mut connection, _) = registered;

    let (message, settings) = connection.message().await;
    assert_eq!(message, message::CONFIGURE);
    assert_eq!(settings["config"], json!({"a": 1}));
    assert!(!agent.is_healthy());
    let asked = agent.send("c-1", &request("c-1", "/")).await;
    assert!(
        matches!(asked, Err(CallError::Unavailable { .. })),
        "{asked:?}"
    );

    connection
        .allow(settings["correlation_id"].as_str().unwrap())
        .await;
    eventually("the connection is used", async || agent.is_healthy()).await;

    let event = request("c-2", "/");
    let call = tokio::spawn(async move { agent.send("c-2", &event).await });
    assert_eq!(connection.event().await, "c-2");
    connection.allow("c-2").await;
    call.await.unwrap().unwrap();
}

#[tokio::test]
async fn reconnect_sends_the_settings_that_were_accepted_last() {
    for encoding in BOTH {
        let (agent, pool, mut connection) = raw_pool(config(encoding)).await;
        let handle = pool.agent("agent").unwrap();
        let configure = async |config: &str, allow: bool, connection: &mut RawConnection| {
            let configured = handle.configure(json!(config), None);
            let (configured, settings) = tokio::join!(configured, take_settings(connection, allow));
            assert_eq!(settings["config"], config);
            configured
        };

        assert_eq!(configure("good", true, &mut connection).await.unwrap(), 1);
        assert_fails!(
            configure("bad", false, &mut connection).await,
            CallError::SettingsRefused { .. }
        );

        drop(connection);
        let mut connection = agent.accept_in(encoding).await;
        assert_eq!(take_settings(&mut connection, true).await["config"], "good");

        eventually("the connection is used", async || {
            pool.agent("agent").is_some_and(|agent| agent.is_healthy())
        })
        .await;
        expect_works(&pool, &mut connection, "1").await;
    }
}

#[tokio::test]
async fn connection_is_not_used_if_the_agent_rejects_settings() {
    let agent = RawAgent::listen();
    let pool = AgentPool::with_config(config(Encoding::Json));
    let absent = pool.add(AgentConfig::reverse("agent")).await.unwrap();
    absent.configure(json!("x"), None).await.unwrap();

    let endpoint = agent.path.display().to_string();
    let add = pool.replace(AgentConfig::new("agent", endpoint).require_connection());
    let reject = async {
        let mut connection = agent.accept_in(Encoding::Json).await;
        take_settings(&mut connection, false).await;
        connection.expect_end().await;
    };
    let (added, ()) = tokio::join!(add, reject);

    let error = added.unwrap_err().to_string();
    assert!(error.contains("the agent rejects its settings"), "{error}");
    assert_fails!(
        absent.send("1", &request("1", "/")).await,
        CallError::Unavailable { .. }
    );
}

/// Settings that time out are sent again. An `allow` by failure mode does not count as an answer.
#[tokio::test]
async fn settings_without_an_answer_are_sent_again() {
    let settings = config(Encoding::Json)
        .request_timeout(Duration::from_millis(50))
        .failure_mode(FailureMode::Open)
        .health_check_interval(Duration::from_millis(20))
        .ping_timeout(TEST_TIMEOUT);

    let (_agent, pool, mut connection) = raw_pool(settings).await;
    assert_fails!(
        pool.agent("agent")
            .unwrap()
            .configure(json!("x"), None)
            .await,
        CallError::Timeout { .. }
    );

    let mut configured = 0;
    while configured < 2 {
        let (message, event) = connection.message().await;
        if message == message::CONFIGURE {
            configured += 1;
            assert_eq!(event["config"], "x");
        }
    }
}

#[tokio::test]
async fn updates_arrive_in_order_even_after_a_rejection() {
    for encoding in ALL {
        let agent = Served::speaking(encoding).await;
        let settings = config(encoding).connections_per_agent(4);
        let pool = pool_with(settings, &agent.path).await;
        let handle = pool.agent("agent").unwrap();
        let ids: Vec<_> = (0..20)
            .map(|entry| {
                let list_id = if entry == 7 { "rejected" } else { "ips" };
                handle.push_config(list(list_id, entry)).unwrap()
            })
            .collect();

        wait_for_pushes(&pool).await;
        let expected = |entry: usize| match entry {
            7 => format!("rejected [\"{entry}\"]"),
            _ => format!("ips [\"{entry}\"]"),
        };
        let expected: Vec<_> = (0..20).map(expected).collect();
        assert_eq!(agent.told(), expected);

        let pusher = pool.config_pusher();
        for (entry, id) in ids.iter().enumerate() {
            let expected = match entry {
                7 => PushStatus::Failed {
                    reason: "Configuration rejected".to_owned(),
                },
                _ => PushStatus::Acknowledged,
            };
            assert_eq!(status(pusher, id), (expected, 1));
        }

        let agents = pusher.connected_agents();
        assert_eq!(agents.len(), 1);
        assert_eq!(agents[0].name, "Recorder");
        assert_eq!(agents[0].successful_pushes, 19);
        assert_eq!(agents[0].failed_pushes, 1);

        assert_eq!(pool.config_pusher().push_to_all(list("ips", 1)).len(), 1);
        wait_for_pushes(&pool).await;
    }
}

#[tokio::test]
async fn update_is_sent_again_until_it_is_answered() {
    for encoding in BOTH {
        let settings = config(encoding)
            .config_push(with_retries(3))
            .failure_mode(FailureMode::Open);
        let (_agent, pool, mut connections) = raw_pool_with(settings, take_pushes).await;
        let connection = &mut connections[0];

        let id = pool
            .agent("agent")
            .unwrap()
            .push_config(list("ips", 1))
            .expect("the agent takes pushes");
        let (message, first) = connection.message().await;
        assert_eq!(message, message::CONFIGURE);
        let second = take_settings(connection, true).await;

        for update in [&first, &second] {
            assert_eq!(update["request_id"], id);
            let expected =
                json!({"type": "list_update", "list_id": "ips", "add": ["1"], "remove": []});
            assert_eq!(update["config"], expected);
        }
        assert_ne!(first["correlation_id"], second["correlation_id"]);

        wait_for_pushes(&pool).await;
        assert_eq!(
            status(pool.config_pusher(), &id),
            (PushStatus::Acknowledged, 2)
        );
    }
}

#[tokio::test]
async fn unanswered_update_expires_and_the_next_is_sent() {
    let settings = config(Encoding::Json).config_push(with_retries(1));
    let (_agent, pool, mut connections) = raw_pool_with(settings, take_pushes).await;

    let connection = &mut connections[0];
    let agent = pool.agent("agent").unwrap();
    let push = |entry| agent.push_config(list("ips", entry)).unwrap();
    let (first, second) = (push(1), push(2));

    for _ in 0..2 {
        assert_eq!(connection.message().await.1["request_id"], first);
    }
    assert_eq!(take_settings(connection, true).await["request_id"], second);

    wait_for_pushes(&pool).await;
    let pusher = pool.config_pusher();
    assert_eq!(status(pusher, &first), (PushStatus::Expired, 2));
    assert_eq!(status(pusher, &second), (PushStatus::Acknowledged, 1));

    // This comes too late.
    pusher.acknowledge(&first, true, None);
    assert_eq!(status(pusher, &first).0, PushStatus::Expired);
}

#[tokio::test]
async fn agent_that_reconnects_in_time_gets_its_updates() {
    let settings = config(Encoding::Json)
        .config_push(with_retries(20).ack_timeout(TEST_TIMEOUT))
        .reconnect_interval(Duration::from_millis(1));
    let (agent, pool, connections) = raw_pool_with(settings, take_pushes).await;

    drop(connections);
    let id = pool
        .agent("agent")
        .unwrap()
        .push_config(list("ips", 1))
        .expect("the agent is known");

    let mut connection = agent.accept_with(Encoding::Json, take_pushes).await;
    assert_eq!(take_settings(&mut connection, true).await["request_id"], id);

    wait_for_pushes(&pool).await;
    assert_eq!(
        status(pool.config_pusher(), &id).0,
        PushStatus::Acknowledged
    );
}

/// The agent would take an update for its settings.
#[tokio::test]
async fn agent_without_the_extension_gets_no_updates() {
    for encoding in BOTH {
        let settings = config(encoding);
        let (_agent, pool, mut connections) = raw_pool_with(settings, announce_pushes).await;
        let agent = pool.agent("agent").unwrap();
        assert!(agent.capabilities().unwrap().features.config_push);
        for update in [list("ips", 1), ConfigUpdateType::RequestReload] {
            assert_eq!(agent.push_config(update.clone()), None);
            assert!(pool.config_pusher().push_to_all(update).is_empty());
        }
        assert!(pool.config_pusher().pushable_agents().is_empty());
        assert!(!connections[0].sync_events().await);
    }
}

#[tokio::test]
async fn update_fails_if_the_agent_returns_without_the_extension() {
    let settings = config(Encoding::Json)
        .config_push(with_retries(20).ack_timeout(TEST_TIMEOUT))
        .reconnect_interval(Duration::from_millis(1));
    let (agent, pool, connections) = raw_pool_with(settings, take_pushes).await;
    drop(connections);
    let id = pool
        .agent("agent")
        .unwrap()
        .push_config(list("ips", 1))
        .expect("the agent is known");
    let mut connection = agent.accept_with(Encoding::Json, announce_pushes).await;
    wait_for_pushes(&pool).await;
    let (status, _) = status(pool.config_pusher(), &id);
    let PushStatus::Failed { reason } = &status else {
        panic!("{status:?}");
    };
    assert!(reason.contains("extension"), "{reason}");
    assert!(!connection.sync_events().await);
}

#[tokio::test]
async fn pushes_are_limited_and_need_the_capability() {
    let mut settings = config(Encoding::Json);
    settings.config_push.max_pending_per_agent = 2;
    let (_agent, pool, _connections) = raw_pool_with(settings, take_pushes).await;
    let agent = pool.agent("agent").unwrap();
    let push = || agent.push_config(list("ips", 1));
    assert!(push().is_some() && push().is_some());
    assert_eq!(push(), None);
    agent.remove().unwrap();
    assert_eq!(pool.config_pusher().pending_count(), 0);
    assert_eq!(push(), None, "the agent is removed");

    let (_agent, pool, _connection) = raw_pool(config(Encoding::Json)).await;
    let rejected = pool.agent("agent").unwrap().push_config(list("ips", 1));
    assert_eq!(
        rejected, None,
        "the agent does not announce that it takes pushes"
    );
    assert_eq!(pool.config_pusher().connected_agents().len(), 1);
    assert!(pool.config_pusher().pushable_agents().is_empty());
}

/// A [`ConfigPusher`] without a pool, for callers that send the updates themselves.
#[tokio::test]
async fn pusher_works_without_a_pool() {
    let pusher = ConfigPusher::with_config(with_retries(1).ack_timeout(Duration::from_millis(20)));

    pusher.register_agent("a", "A", true);
    pusher.register_agent("b", "B", true);
    pusher.register_agent("c", "C", false);

    let ids = pusher.push_to_all(list("ips", 1));
    assert_eq!(ids.len(), 2);
    let waiting = pusher.push_to_agent("a", list("ips", 2)).unwrap();

    let due = || {
        let due = pusher.get_retryable().into_iter();
        due.map(|(agent_id, update)| (agent_id, update.request_id))
            .collect::<Vec<_>>()
    };

    let first = ("a".to_owned(), ids[0].clone());
    assert_eq!(due(), [first.clone(), ("b".to_owned(), ids[1].clone())]);
    assert_eq!(due(), [], "they were sent just now");

    pusher.acknowledge(&ids[1], true, None);
    eventually("the update is sent again", async || {
        due() == [first.clone()]
    })
    .await;
    eventually("the update expires, and the next one is sent", async || {
        due() == [("a".to_owned(), waiting.clone())]
    })
    .await;

    assert_eq!(status(&pusher, &ids[0]), (PushStatus::Expired, 2));
    pusher.unregister_agent("a");
    assert_eq!(pusher.pending_count(), 0);
}

#[tokio::test]
async fn drain_and_shutdown_are_sent_if_the_peer_knows_them() {
    for encoding in ALL {
        let agent = Served::speaking(encoding).await;
        let pool = pool_with(config(encoding), &agent.path).await;
        let handle = pool.agent("agent").unwrap();

        let drained = handle
            .request_drain(Duration::from_millis(500), DrainReason::Maintenance)
            .await;
        assert!(drained.unwrap());
        let shut = handle
            .request_shutdown(Duration::from_millis(1000), ShutdownReason::Upgrade)
            .await;
        assert!(shut.unwrap());

        let told = || agent.told.lock().unwrap().len() == 2;
        eventually("the agent is told", async || told()).await;
        assert_eq!(
            agent.told(),
            ["drain 500 Maintenance", "shutdown Upgrade 1000"]
        );
    }
    for encoding in BOTH {
        let (_agent, pool, mut connection) = raw_pool(config(encoding)).await;
        let agent = pool.agent("agent").unwrap();
        let drain = || agent.request_drain(Duration::from_millis(500), DrainReason::Manual);
        assert!(!drain().await.unwrap());

        connection.sync().await;
        connection.expect_silence();
        agent.remove().unwrap();
        assert_fails!(drain().await, CallError::Removed { .. });
    }
}
