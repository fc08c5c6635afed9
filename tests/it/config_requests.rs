//! Agents request config updates. The proxy's handler decides once, and answers the agent.

use crate::common::*;
use serde_json::json;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use tokio::runtime::Builder;
use tokio::time::timeout;
use tollgate::{
    AgentCapabilities, AgentConfig, AgentControl, AgentHandler, AgentPool, Encoding,
    config_push::ConfigUpdateHandler,
    control::{
        AgentNotice, ConfigUpdateRequest, ConfigUpdateResponse, ConfigUpdateType, MetricsReport,
        RuleDefinition,
    },
};

const RETRY: Duration = Duration::from_millis(20);

fn list(list_id: &str) -> ConfigUpdateType {
    ConfigUpdateType::ListUpdate {
        list_id: list_id.to_owned(),
        add: vec!["192.0.2.7".to_owned()],
        remove: vec!["192.0.2.8".to_owned()],
    }
}

async fn confirmed(
    control: &AgentControl,
    id: &str,
    update: ConfigUpdateType,
) -> (bool, Option<String>) {
    let request = ConfigUpdateRequest::new(id, update);
    let confirmed = timeout(TEST_TIMEOUT, control.confirm_config_update(request, RETRY));
    let response = confirmed.await.expect("an answer");
    assert_eq!(response.request_id, id);
    (response.accepted, response.error)
}

fn rejection(reason: &str) -> (bool, Option<String>) {
    (false, Some(reason.to_owned()))
}

fn rules() -> ConfigUpdateType {
    ConfigUpdateType::RuleUpdate {
        rule_set: "core".to_owned(),
        rules: vec![RuleDefinition {
            id: "r1".to_owned(),
            priority: 1,
            definition: json!({"if": "x"}),
            enabled: true,
            description: None,
            tags: Vec::new(),
        }],
        remove_rules: vec!["r0".to_owned()],
    }
}

fn restart() -> ConfigUpdateType {
    ConfigUpdateType::RestartRequired {
        reason: "leak".to_owned(),
        grace_period_ms: 2000,
    }
}

fn config_error() -> ConfigUpdateType {
    ConfigUpdateType::ConfigError {
        error: "no such field".to_owned(),
        field: Some("a.b".to_owned()),
    }
}

/// Returns a handler that notes each call, and accepts rules and the list `ips`.
fn noting_handler(seen: &Arc<Mutex<Vec<String>>>) -> ConfigUpdateHandler {
    let note = |seen: &Arc<Mutex<Vec<String>>>| {
        let seen = Arc::clone(seen);
        move |what: String| seen.lock().unwrap().push(what)
    };
    let (rule_note, list_note) = (note(seen), note(seen));
    let (restart_note, error_note, reload_note) = (note(seen), note(seen), note(seen));
    ConfigUpdateHandler::new()
        .on_rule_update(move |set, rules, remove| {
            rule_note(format!("{set} {} {remove:?}", rules[0].id));
            true
        })
        .on_list_update(move |list, add, remove| {
            list_note(format!("{list} {add:?} {remove:?}"));
            match list {
                "panics" => panic!("on purpose"),
                list => list == "ips",
            }
        })
        .on_restart_required(move |agent, reason, grace| {
            restart_note(format!("{agent} {reason} {grace:?}"));
        })
        .on_config_error(move |agent, error, field| {
            error_note(format!("{agent} {error} {field:?}"));
        })
        .on_reload(move |agent| {
            reload_note(agent.to_owned());
            false
        })
}

#[tokio::test]
async fn handler_decides_and_the_agent_is_answered() {
    let accepted = (true, None);
    for encoding in ALL {
        let agent = serve_for(encoding).await;
        let control = &agent.control;
        let pool = pool_with(config(encoding), &agent.path).await;
        // Without callbacks.
        let answer = confirmed(control, "1", rules()).await;
        assert_eq!(answer, rejection("Rule updates not supported"));
        let answer = confirmed(control, "2", list("ips")).await;
        assert_eq!(answer, rejection("List updates not supported"));
        assert_eq!(confirmed(control, "3", restart()).await, accepted);
        assert_eq!(confirmed(control, "4", config_error()).await, accepted);
        let reload = ConfigUpdateType::RequestReload;
        assert_eq!(confirmed(control, "5", reload.clone()).await, accepted);
        assert_eq!(pool.config_update_handler().pending_count(), 1);

        let seen = Arc::<Mutex<Vec<String>>>::default();
        pool.set_config_update_handler(noting_handler(&seen));
        assert_eq!(confirmed(control, "6", rules()).await, accepted);
        assert_eq!(confirmed(control, "7", list("ips")).await, accepted);
        let answer = confirmed(control, "8", list("other")).await;
        assert_eq!(answer, rejection("List update rejected"));
        let answer = confirmed(control, "9", list("panics")).await;
        assert_eq!(answer, rejection("The proxy failed to handle the request"));
        assert_eq!(confirmed(control, "10", restart()).await, accepted);
        assert_eq!(confirmed(control, "11", config_error()).await, accepted);
        let answer = confirmed(control, "12", reload).await;
        assert_eq!(answer, rejection("Reload rejected"));
        let addresses = "[\"192.0.2.7\"] [\"192.0.2.8\"]";
        assert_eq!(
            *seen.lock().unwrap(),
            [
                "core r1 [\"r0\"]".to_owned(),
                format!("ips {addresses}"),
                format!("other {addresses}"),
                format!("panics {addresses}"),
                "agent leak 2s".to_owned(),
                "agent no such field Some(\"a.b\")".to_owned(),
                "agent".to_owned(),
            ]
        );
        // Requests that were not answered in time were sent again.
        let stats = pool.agent("agent").unwrap().stats();
        assert!(stats.config_updates_accepted >= 3 + 4);
        assert!(stats.config_updates_refused >= 2 + 3);
    }
}

#[tokio::test]
async fn repeated_request_is_handled_once() {
    let agent = serve().await;
    let settings = config(Encoding::MessagePack).connections_per_agent(4);
    let pool = pool_with(settings, &agent.path).await;

    let calls = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&calls);
    let handler = ConfigUpdateHandler::new().on_list_update(move |_, _, _| {
        counted.fetch_add(1, Ordering::Relaxed);
        // Meanwhile the agent repeats its request.
        std::thread::sleep(4 * RETRY);
        true
    });
    pool.set_config_update_handler(handler);

    assert!(confirmed(&agent.control, "1", list("a")).await.0);
    assert!(confirmed(&agent.control, "1", list("a")).await.0);
    assert_eq!(calls.load(Ordering::Relaxed), 1);
    assert!(confirmed(&agent.control, "2", list("a")).await.0);
    assert_eq!(calls.load(Ordering::Relaxed), 2);
}

/// A slow handler delays neither answers nor other agents.
#[tokio::test]
async fn slow_handler_does_not_delay_others() {
    let (slow, quick) = (serve().await, serve().await);
    let pool = pool_with(config(Encoding::MessagePack), &slow.path).await;
    pool.add(AgentConfig::new("quick", quick.path.to_str().unwrap()))
        .await
        .unwrap();
    let (release, released) = std::sync::mpsc::channel::<()>();
    let released = Mutex::new(released);
    let handler = ConfigUpdateHandler::new().on_list_update(move |list, _, _| {
        if list == "slow" {
            released.lock().unwrap().recv().unwrap();
        }
        true
    });

    pool.set_config_update_handler(handler);
    let control = slow.control.clone();
    let waiting = tokio::spawn(async move { confirmed(&control, "1", list("slow")).await });

    assert!(confirmed(&quick.control, "2", list("quick")).await.0);
    pool.agent("agent")
        .unwrap()
        .send("1", &request("1", "/"))
        .await
        .unwrap();
    assert!(!waiting.is_finished());

    release.send(()).unwrap();
    assert!(waiting.await.unwrap().0);
}

#[tokio::test]
async fn requests_beyond_the_limit_are_rejected() {
    const LIMIT: u64 = 64;
    const REQUESTS: u64 = 10 * LIMIT;
    let (_agent, pool, mut connection) = raw_pool(config(Encoding::Json)).await;
    let (release, released) = std::sync::mpsc::channel::<()>();
    let released = Mutex::new(released);
    let calls = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&calls);
    pool.set_config_update_handler(ConfigUpdateHandler::new().on_list_update(move |_, _, _| {
        // Only the first call waits. Once the sender is dropped, the others return at once.
        let _ = released.lock().unwrap().recv();
        counted.fetch_add(1, Ordering::Relaxed);
        true
    }));

    for id in 0..REQUESTS {
        let request = ConfigUpdateRequest::new(id.to_string(), list("a"));
        let request = serde_json::to_value(request).unwrap();
        connection
            .send_value(message::CONFIG_UPDATE_REQUEST, &request)
            .await;
    }
    // Nothing comes back that an agent on `zentinel-agent-protocol` would not know.
    assert!(connection.sync().await.is_empty());

    drop(release);
    let stats = async || pool.agent("agent").unwrap().stats();
    eventually("all requests are answered", async || {
        let stats = stats().await;
        stats.config_updates_accepted + stats.config_updates_refused == REQUESTS
    })
    .await;

    let rejected = stats().await.config_updates_refused;
    // The first may have left the queue already.
    let handled = REQUESTS - rejected;
    assert!((LIMIT..=LIMIT + 1).contains(&handled), "{handled}");
    assert_eq!(calls.load(Ordering::Relaxed) as u64, handled);
}

#[tokio::test]
async fn agent_that_requests_a_reload_gets_its_settings_again() {
    for encoding in ALL {
        let agent = serve_for(encoding).await;
        let pool = pool_with(config(encoding), &agent.path).await;
        let settings = json!({"accept": true, "n": 7});
        let told = pool
            .agent("agent")
            .unwrap()
            .configure(settings.clone(), None)
            .await;
        assert_eq!(told.unwrap(), 1);

        agent.seen.lock().unwrap().clear();
        let reload = ConfigUpdateType::RequestReload;
        assert_eq!(confirmed(&agent.control, "1", reload).await, (true, None));
        eventually("the settings are sent again", async || {
            *agent.seen.lock().unwrap() == [json!({"config": settings})]
        })
        .await;

        eventually("the reload is done", async || {
            pool.config_update_handler().pending_count() == 0
        })
        .await;
    }
}

/// Receives settings. Returns the id under which they are answered.
async fn configured(connection: &mut RawConnection) -> String {
    loop {
        let (message, event) = connection.message().await;
        if message == message::CONFIGURE {
            return event["correlation_id"].as_str().unwrap().to_owned();
        }
    }
}

/// The settings that a new connection is getting may be older than the request.
#[tokio::test]
async fn reload_is_done_although_a_connection_is_getting_its_settings() {
    let (agent, pool, mut connection) =
        raw_pool(config(Encoding::Json).reconnect_interval(RETRY)).await;
    let configuring = tokio::spawn({
        let pool = pool.clone();
        async move { pool.agent("agent").unwrap().configure(json!(1), None).await }
    });
    let id = configured(&mut connection).await;
    connection.allow(&id).await;
    assert_eq!(configuring.await.unwrap().unwrap(), 1);

    drop(connection);
    let mut connection = agent.accept_in(Encoding::Json).await;
    let id = configured(&mut connection).await;
    let reload = ConfigUpdateRequest::new("1", ConfigUpdateType::RequestReload);
    let reload = serde_json::to_value(reload).unwrap();
    connection
        .send_value(message::CONFIG_UPDATE_REQUEST, &reload)
        .await;
    eventually("the reload is accepted", async || {
        let stats = pool.agent("agent").unwrap().stats();
        stats.config_updates_accepted == 1
    })
    .await;
    connection.allow(&id).await;

    let id = configured(&mut connection).await;
    assert_eq!(pool.config_update_handler().pending_count(), 1);
    connection.allow(&id).await;
    eventually("the reload is done", async || {
        pool.config_update_handler().pending_count() == 0
    })
    .await;
}

/// Messages to a proxy are sent once, however many connections it has.
#[tokio::test]
async fn message_to_a_proxy_is_sent_once() {
    let agent = serve().await;
    let settings = || config(Encoding::MessagePack).connections_per_agent(4);
    let pools: [AgentPool; 2] = [
        pool_with(settings(), &agent.path).await,
        pool_with(settings(), &agent.path).await,
    ];

    let mut listeners = pools.each_ref().map(AgentPool::notices);
    eventually("all connections are open", async || {
        agent.control.connections() == 8
    })
    .await;

    // Calls on all connections prove that the agent has processed every handshake.
    for pool in &pools {
        for id in 0..4 {
            let id = id.to_string();
            pool.agent("agent")
                .unwrap()
                .send(&id, &request(&id, "/"))
                .await
                .unwrap();
        }
    }

    for interval in [1, 2] {
        agent
            .control
            .report_metrics(MetricsReport::new("a", interval));
    }

    for notices in &mut listeners {
        for expected in [1, 2] {
            let notice = notices.recv().await.unwrap();
            let AgentNotice::Metrics { report, .. } = notice else {
                panic!("{notice:?}");
            };
            assert_eq!(report.interval_ms, expected);
        }
    }
}

/// Records the answers to its requests.
struct Listener(Arc<Mutex<Vec<ConfigUpdateResponse>>>);

impl AgentHandler for Listener {
    fn capabilities(&self) -> AgentCapabilities {
        AgentCapabilities::new("listener", "Listener", "1")
    }

    fn on_config_update_response(&self, response: ConfigUpdateResponse) {
        self.0.lock().unwrap().push(response);
    }
}

#[tokio::test]
async fn answers_reach_the_handler_of_the_agent() {
    for encoding in ALL {
        let dir = tempfile::tempdir().unwrap();
        let received = Arc::default();
        let (path, control) = serve_handler(encoding, &dir, Listener(Arc::clone(&received))).await;
        let _pool = pool_with(config(encoding), &path).await;

        control.request_config_update(ConfigUpdateRequest::new("r", list("a")));
        eventually("the answer comes", async || {
            received.lock().unwrap().len() == 1
        })
        .await;

        let response = received.lock().unwrap()[0].clone();
        assert_eq!(response.request_id, "r");
        assert!(!response.accepted);
    }
}

/// A runtime that ends before its thread hands a request to the handler leaves nothing in memory.
#[test]
fn request_that_an_ended_runtime_leaves_is_dropped() {
    let runtime = Builder::new_current_thread()
        .enable_all()
        .max_blocking_threads(1)
        .build()
        .unwrap();
    let (release, released) = std::sync::mpsc::channel::<()>();
    let held = Arc::new(());
    runtime.block_on(async {
        tokio::task::spawn_blocking(move || released.recv());
        let agent = serve_for(Encoding::MessagePack).await;
        let pool = pool_with(config(Encoding::MessagePack), &agent.path).await;
        let holds = Arc::clone(&held);
        pool.set_config_update_handler(ConfigUpdateHandler::new().on_list_update(
            move |_, _, _| {
                let _ = &holds;
                true
            },
        ));
        let mut notices = pool.notices();
        agent
            .control
            .request_config_update(ConfigUpdateRequest::new("r", list("a")));
        notices.recv().await.unwrap();
    });
    runtime.shutdown_background();
    drop(release);
    let started = Instant::now();
    while Arc::strong_count(&held) > 1 {
        assert!(started.elapsed() < TEST_TIMEOUT, "the handler is kept");
        std::thread::yield_now();
    }
}

/// Returns a handler of requests for a reload, and the number of those that it has handled.
fn counting_handler() -> (ConfigUpdateHandler, Arc<AtomicUsize>) {
    let handled = Arc::<AtomicUsize>::default();
    let count = Arc::clone(&handled);
    let handler = ConfigUpdateHandler::new().on_reload(move |_| {
        count.fetch_add(1, Ordering::Relaxed);
        true
    });
    (handler, handled)
}

fn request_reload(handler: &ConfigUpdateHandler, id: impl Into<String>) {
    let request = ConfigUpdateRequest::new(id, ConfigUpdateType::RequestReload);
    assert!(handler.handle_from("agent", request).accepted);
}

#[test]
fn requests_with_long_ids_are_not_remembered() {
    let (handler, handled) = counting_handler();
    for (length, calls) in [(256, 1), (257, 2), (2560, 2)] {
        handled.store(0, Ordering::Relaxed);
        for _ in 0..2 {
            request_reload(&handler, "i".repeat(length));
        }
        assert_eq!(handled.load(Ordering::Relaxed), calls, "{length}");
    }
}

#[test]
fn only_the_newest_requests_are_remembered() {
    const LIMIT: usize = 1024;
    let (handler, handled) = counting_handler();
    let repeat = |number: usize| request_reload(&handler, format!("{number:_<256}"));
    let expect_handled = |count| assert_eq!(handled.swap(0, Ordering::Relaxed), count);
    (0..10 * LIMIT).for_each(repeat);
    expect_handled(10 * LIMIT);
    assert_eq!(handler.pending_count(), LIMIT);

    (9 * LIMIT..10 * LIMIT).for_each(repeat);
    expect_handled(0);
    [0, 9 * LIMIT - 1].into_iter().for_each(repeat);
    expect_handled(2);
    assert_eq!(handler.pending_count(), LIMIT);
}
