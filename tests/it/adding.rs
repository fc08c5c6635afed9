//! Adding agents: the errors, the settings of single agents, and agents that connect to the proxy.

use crate::common::{
    Call, Proxy, RawAgent, RawConnection, ServedAgent, TEST_TIMEOUT, agent_ids, config, dial,
    eventually, message, request, result_of, serve, status_of,
};
use futures_util::FutureExt;
use std::pin::pin;
use std::time::{Duration, Instant};
use tollgate::{
    AddError, Agent, AgentConfig, AgentPool, AgentPoolConfig, AgentResponse, CallError as Error,
    ConnectError, Decision, Encoding, EventTimeouts, EventType, FailureMode, FlowControlMode,
    control::{LogLevel, LogMessage},
    events::{RequestBodyChunkEvent, ResponseHeadersEvent},
    stats::CircuitBreakerState,
};

/// Timeout of calls that are not answered.
const SHORT: Duration = Duration::from_millis(20);

/// Returns why an agent is neither added nor takes the place of another. The pool stays as it was.
async fn rejection(pool: &AgentPool, config: AgentConfig) -> AddError {
    let before = agent_ids(pool);
    let added = pool.add(config.clone()).await.expect_err("it is added");
    let replaced = pool.replace(config).await.expect_err("it is added");
    assert_eq!(added.to_string(), replaced.to_string());
    assert_eq!(agent_ids(pool), before);
    added
}

#[tokio::test]
async fn invalid_ids_are_rejected() {
    let pool = AgentPool::new();
    let too_long = "a".repeat(129);
    for id in ["", &*too_long, "a b", "\u{fc}", "a\n", "\0", "\u{7f}"] {
        for config in [
            AgentConfig::reverse(id),
            AgentConfig::new(id, "/run/waf.sock").connections(0),
        ] {
            let error = rejection(&pool, config).await;
            assert!(matches!(&error, AddError::InvalidId { agent_id } if agent_id == id));
            assert_eq!((error.kind(), error.is_retryable()), ("invalid_id", false));
        }
    }

    let longest = "a".repeat(128);
    for id in ["a", &*longest, "!waf-1.eu/~"] {
        let agent = pool.add(AgentConfig::reverse(id)).await.unwrap();
        assert_eq!(agent.id(), id);
    }
}

#[tokio::test]
async fn agent_without_connections_is_rejected() {
    let none = AgentPool::with_config(AgentPoolConfig::default().connections_per_agent(0));
    let waf = AgentConfig::new("waf", "/run/waf.sock");
    for (pool, config) in [
        (&AgentPool::new(), waf.clone().connections(0)),
        (&none, waf.clone()),
    ] {
        let error = rejection(pool, config).await;
        assert!(matches!(&error, AddError::InvalidConfig { agent_id, .. } if agent_id == "waf"));
        assert!(error.to_string().contains("connections is 0"), "{error}");
        assert_eq!(error.kind(), "invalid_configuration");
        assert!(!error.is_retryable());
    }
    none.add(waf.connections(1)).await.unwrap();
}

#[cfg(feature = "grpc")]
#[tokio::test]
async fn grpc_messages_are_limited_to_the_size_of_a_frame() {
    let pool = AgentPool::new();
    let limit = 16 * 1024 * 1024;
    let waf = AgentConfig::reverse("waf");
    let error = rejection(&pool, waf.clone().max_grpc_message_size(limit + 1)).await;
    assert!(matches!(error, AddError::InvalidConfig { .. }), "{error}");
    assert!(error.to_string().contains("16 MiB"), "{error}");
    pool.add(waf.max_grpc_message_size(limit)).await.unwrap();
}

#[tokio::test]
async fn invalid_endpoints_are_rejected() {
    let pool = AgentPool::new();
    let long = format!("/{}", "x".repeat(107));
    for endpoint in [
        "",
        "unix:",
        "waf",
        "waf.sock",
        "/a\0b",
        &long,
        "tcp://",
        "tcp://waf",
        "tcp://:7000",
        "tcp://waf:0",
        "tcp://waf:65536",
        "tcp://a b:1",
        "tcp://::1:1",
        "ftp://waf:21",
    ] {
        let error = rejection(&pool, AgentConfig::new("waf", endpoint)).await;
        assert!(matches!(error, AddError::InvalidEndpoint(_)), "{error}");
        let named = format!("invalid endpoint '{endpoint}'");
        assert!(error.to_string().contains(&named), "{error}");
        assert_eq!(
            (error.kind(), error.is_retryable()),
            ("invalid_endpoint", false)
        );
    }
}

#[tokio::test]
async fn id_of_another_agent_is_taken() {
    let server = serve().await;
    let pool = AgentPool::new();
    let config = AgentConfig::new("waf", server.path.to_str().unwrap());
    let agent = pool.add(config.clone()).await.unwrap();

    for config in [config.clone(), AgentConfig::reverse("waf")] {
        let error = pool.add(config).await.unwrap_err();
        assert!(matches!(&error, AddError::IdTaken { agent_id } if &**agent_id == "waf"));
        assert_eq!((error.kind(), error.is_retryable()), ("id_taken", false));
    }
    agent.send("c-1", &request("c-1", "/")).await.unwrap();

    agent.remove().unwrap();
    let again = pool.add(config).await.unwrap();
    again.send("c-1", &request("c-1", "/")).await.unwrap();
}

#[tokio::test]
async fn id_that_is_taken_while_an_agent_connects_is_rejected() {
    let slow = RawAgent::listen();
    let pool = AgentPool::with_config(config(Encoding::Json));
    let endpoint = slow.path.display().to_string();
    let mut adding = pin!(pool.add(AgentConfig::new("waf", endpoint)));
    assert!(adding.as_mut().now_or_never().is_none());
    let agent = pool.add(AgentConfig::reverse("waf")).await.unwrap();

    let (added, mut connection) = tokio::join!(adding, slow.accept_in(Encoding::Json));
    assert_fails!(added, AddError::IdTaken { .. });
    connection.expect_end().await;
    assert_eq!(agent_ids(&pool), ["waf"]);
    agent.remove().unwrap();
}

#[tokio::test]
async fn nothing_is_added_during_a_shutdown() {
    let server = serve().await;
    let pool = AgentPool::new();
    let config = AgentConfig::new("waf", server.path.to_str().unwrap());
    let agent = pool.add(config).await.unwrap();
    let exchange = agent.exchange("c-1").unwrap();
    let mut shutdown = pin!(pool.shutdown());
    assert!(shutdown.as_mut().now_or_never().is_none());

    let error = rejection(&pool, AgentConfig::reverse("other")).await;
    assert!(matches!(&error, AddError::ShuttingDown { agent_id } if &**agent_id == "other"));
    assert_eq!(
        (error.kind(), error.is_retryable()),
        ("shutting_down", true)
    );

    drop(exchange);
    shutdown.await;
    pool.add(AgentConfig::reverse("other")).await.unwrap();
}

#[tokio::test]
async fn connection_may_be_required() {
    let pool = AgentPool::new();
    let folder = tempfile::tempdir().unwrap();
    let missing = folder.path().join("waf.sock").display().to_string();
    let config = AgentConfig::new("waf", &*missing);

    let error = rejection(&pool, config.clone().require_connection()).await;
    let is_expected = matches!(
        &error,
        AddError::Connect { agent_id, endpoint, source: ConnectError::NoSuchSocket }
            if &**agent_id == "waf" && *endpoint == missing
    );
    assert!(is_expected, "{error:?}");
    assert_eq!(
        (error.kind(), error.is_retryable()),
        ("connection_failed", true)
    );
    let text = format!("cannot connect to agent 'waf' at {missing}: no such socket");
    assert_eq!(error.to_string(), text);

    let agent = pool.add(config).await.unwrap();
    let sent = agent.send("c-1", &request("c-1", "/")).await;
    assert_fails!(sent, Error::Unavailable { .. });
}

/// Adds an agent whose one connection the test plays, with settings changed by `set`.
async fn add_played(
    pool: &AgentPool,
    id: &str,
    set: impl FnOnce(AgentConfig) -> AgentConfig,
) -> (Agent, RawConnection) {
    let agent = RawAgent::listen();
    let config = set(AgentConfig::new(id, agent.path.display().to_string()));
    let (added, connection) = tokio::join!(pool.add(config), agent.accept_in(Encoding::Json));
    (added.unwrap(), connection)
}

/// Begins a call.
fn begin(agent: &Agent, id: &str) -> Call {
    let (agent, id) = (agent.clone(), id.to_owned());
    tokio::spawn(async move { agent.send(&id, &request(&id, "/")).await })
}

async fn pause(connection: &mut RawConnection) {
    connection
        .send(message::FLOW_CONTROL, br#"{"action":1}"#)
        .await;
    connection.sync().await;
}

fn expect_timeout(result: &Result<AgentResponse, Error>, expected: Duration) {
    let is_expected = matches!(result, Err(Error::Timeout { after, .. }) if *after == expected);
    assert!(is_expected, "{result:?}");
}

#[tokio::test]
async fn agent_has_its_own_timeouts() {
    let pool = AgentPool::with_config(config(Encoding::Json).request_timeout(SHORT));
    let (default, _silent) = add_played(&pool, "default", |agent| agent).await;
    let for_chunks = EventTimeouts::default().with(EventType::RequestBodyChunk, 2 * SHORT);
    let own = |agent: AgentConfig| agent.timeout(TEST_TIMEOUT).event_timeouts(for_chunks);
    let (own, mut connection) = add_played(&pool, "own", own).await;

    let waiting = begin(&own, "c-1");
    assert_eq!(connection.event().await, "c-1");
    let chunk = RequestBodyChunkEvent::new("c-2", "x", 0, true);
    expect_timeout(&default.send("c-1", &request("c-1", "/")).await, SHORT);
    expect_timeout(&default.send("c-2", &chunk).await, SHORT);
    expect_timeout(&own.send("c-2", &chunk).await, 2 * SHORT);
    connection.block("c-1", 418).await;
    assert_eq!(status_of(waiting).await, 418);
}

#[tokio::test]
async fn agent_has_its_own_failure_mode() {
    for (pools, own) in [
        (FailureMode::Closed, FailureMode::Open),
        (FailureMode::Open, FailureMode::Closed),
    ] {
        let pool = AgentPool::with_config(AgentPoolConfig::default().failure_mode(pools));
        let config = AgentConfig::reverse("own").failure_mode(own);
        let own = (pool.add(config).await.unwrap(), own);
        let default = pool.add(AgentConfig::reverse("default")).await.unwrap();

        for (agent, mode) in [own, (default, pools)] {
            let answer = agent.send("c-1", &request("c-1", "/")).await;
            match mode {
                FailureMode::Open => assert_eq!(answer.unwrap(), AgentResponse::default_allow()),
                FailureMode::Closed => {
                    assert_fails!(answer, Error::Unavailable { .. });
                }
            }
            let failed_open = u64::from(mode == FailureMode::Open);
            assert_eq!(agent.stats().failed_open, failed_open);
        }
    }
}

#[tokio::test]
async fn agent_has_its_own_flow_control_mode() {
    let pool = AgentPool::with_config(config(Encoding::Json));
    let open = |agent: AgentConfig| agent.flow_control_mode(FlowControlMode::FailOpen);
    let waits = |agent: AgentConfig| {
        agent
            .flow_control_mode(FlowControlMode::WaitAndRetry)
            .flow_control_wait_timeout(SHORT)
    };
    let (default, mut first) = add_played(&pool, "default", |agent| agent).await;
    let (open, mut second) = add_played(&pool, "open", open).await;
    let (waits, mut third) = add_played(&pool, "waits", waits).await;
    for connection in [&mut first, &mut second, &mut third] {
        pause(connection).await;
    }

    let event = request("c-1", "/");
    assert_fails!(
        default.send("c-1", &event).await,
        Error::FlowControlPaused { .. }
    );
    let allowed = open.send("c-1", &event).await.unwrap();
    assert_eq!(allowed, AgentResponse::default_allow());
    assert_eq!(open.stats().allowed_while_paused, 1);
    let begun = Instant::now();
    assert_fails!(
        waits.send("c-1", &event).await,
        Error::FlowControlPaused { .. }
    );
    assert!(begun.elapsed() >= SHORT);
}

/// The breaker of the pool's configuration is disabled.
#[tokio::test]
async fn agent_has_its_own_circuit_breaker() {
    let pool = AgentPool::with_config(config(Encoding::Json));
    let strict = |agent: AgentConfig| agent.circuit_breaker_threshold(1);
    let brief = |agent: AgentConfig| strict(agent).circuit_breaker_reset_timeout(SHORT);
    let (default, _silent) = add_played(&pool, "default", |agent| agent).await;
    let (strict, _silent) = add_played(&pool, "strict", strict).await;
    let (brief, mut connection) = add_played(&pool, "brief", brief).await;

    let event = request("c-1", "/");
    for agent in [&default, &strict, &brief] {
        expect_timeout(&agent.send("c-1", &event).timeout(SHORT).await, SHORT);
    }
    assert_eq!(connection.event().await, "c-1");
    assert_eq!(default.circuit_breaker_state(), CircuitBreakerState::Closed);
    let second = default.send("c-2", &event).timeout(SHORT).await;
    expect_timeout(&second, SHORT);
    assert_fails!(strict.send("c-2", &event).await, Error::CircuitOpen { .. });

    tokio::time::sleep(2 * SHORT).await;
    assert_fails!(strict.send("c-2", &event).await, Error::CircuitOpen { .. });
    let trial = begin(&brief, "c-2");
    assert_eq!(connection.event().await, "c-2");
    connection.allow("c-2").await;
    result_of(trial).await.unwrap();
}

#[tokio::test]
async fn agent_has_its_own_queue_limits() {
    let pool = AgentPool::with_config(config(Encoding::Json));
    let narrow = |agent: AgentConfig| {
        agent
            .max_concurrent_per_connection(1)
            .max_queued_calls(1)
            .queue_timeout(10 * SHORT)
    };
    let (narrow, mut connection) = add_played(&pool, "narrow", narrow).await;
    let (default, mut wide) = add_played(&pool, "default", |agent| agent).await;

    let sent = begin(&narrow, "sent");
    assert_eq!(connection.event().await, "sent");
    let waiting = begin(&narrow, "waiting");
    eventually("it waits", async || narrow.stats().calls.made == 2).await;
    let rejected = narrow.send("rejected", &request("rejected", "/")).await;
    assert_fails!(rejected, Error::QueueFull { limit: 1, .. });
    let timed_out = result_of(waiting).await;
    let is_expected =
        matches!(timed_out, Err(Error::QueueTimeout { after, .. }) if after == 10 * SHORT);
    assert!(is_expected, "{timed_out:?}");
    connection.block("sent", 418).await;
    assert_eq!(status_of(sent).await, 418);

    let _calls = ["1", "2", "3"].map(|id| begin(&default, id));
    for id in ["1", "2", "3"] {
        assert_eq!(wide.event().await, id);
    }
}

#[tokio::test]
async fn agent_has_its_own_connections_and_encodings() {
    let server = serve().await;
    let path = server.path.to_str().unwrap();
    let pool = AgentPool::with_config(config(Encoding::MessagePack));
    let own = AgentConfig::new("own", path)
        .connections(3)
        .encodings(vec![Encoding::Json])
        .use_extension(false);
    let own = pool.add(own).await.unwrap();
    let default = pool.add(AgentConfig::new("default", path)).await.unwrap();

    for (agent, connections, encoding, has_extension) in [
        (own, 3, Encoding::Json, false),
        (default, 1, Encoding::MessagePack, true),
    ] {
        assert_eq!(agent.stats().active_connections, connections);
        assert_eq!(agent.encoding(), Some(encoding));
        assert_eq!(agent.uses_extension(), Some(has_extension));
        let answer = agent.send("c-1", &request("c-1", "/block")).await.unwrap();
        assert!(matches!(answer.decision, Decision::Block { .. }));
    }
}

/// The agents subscribe to request headers and bodies only.
#[tokio::test]
async fn agent_has_its_own_treatment_of_other_events() {
    let pool = AgentPool::with_config(config(Encoding::Json));
    let skips = |agent: AgentConfig| agent.skip_unsubscribed_events(true);
    let (skips, _connection) = add_played(&pool, "skips", skips).await;
    let (default, mut connection) = add_played(&pool, "default", |agent| agent).await;
    let event = ResponseHeadersEvent {
        correlation_id: "c-1".to_owned(),
        status: 200,
        headers: [].into(),
    };

    skips.send("c-1", &event).await.unwrap();
    assert_eq!(skips.stats().calls.skipped, 1);
    let (answer, ()) = tokio::join!(default.send("c-1", &event), async {
        assert_eq!(connection.event().await, "c-1");
        connection.allow("c-1").await;
    });
    answer.unwrap();
    assert_eq!(default.stats().calls.skipped, 0);
}

#[tokio::test]
async fn agent_has_its_own_drain_timeout() {
    let pool = AgentPool::with_config(config(Encoding::Json));
    let brief = |agent: AgentConfig| agent.drain_timeout(SHORT);
    let (brief, mut connection) = add_played(&pool, "brief", brief).await;
    let (default, mut other) = add_played(&pool, "default", |agent| agent).await;
    let [cut_off, finished] = [begin(&brief, "c-1"), begin(&default, "c-1")];
    assert_eq!(connection.event().await, "c-1");
    assert_eq!(other.event().await, "c-1");

    brief.remove().unwrap();
    default.remove().unwrap();
    assert_fails!(result_of(cut_off).await, Error::Cancelled { .. });
    other.block("c-1", 418).await;
    assert_eq!(status_of(finished).await, 418);
}

/// Settings of a replaced agent that its successor does not set are those of the pool again.
#[tokio::test]
async fn replacement_has_its_own_settings() {
    let server = serve().await;
    let pool = AgentPool::with_config(config(Encoding::MessagePack));
    let config = AgentConfig::new("agent", server.path.to_str().unwrap());
    let event = request("c", "/wait");

    let first = config.clone().failure_mode(FailureMode::Open);
    let first = pool.add(first.timeout(SHORT)).await.unwrap();
    let answer = first.send("c-1", &event).await.unwrap();
    assert_eq!(answer, AgentResponse::default_allow());

    let strict = config.clone().timeout(2 * SHORT);
    let strict = strict.circuit_breaker_threshold(1);
    let second = pool.replace(strict).await.unwrap();
    expect_timeout(&second.send("c-2", &event).await, 2 * SHORT);
    assert_fails!(second.send("c-3", &event).await, Error::CircuitOpen { .. });

    let third = pool.replace(config.connections(2)).await.unwrap();
    assert_eq!(third.stats().active_connections, 2);
    for id in ["c-4", "c-5"] {
        expect_timeout(&third.send(id, &event).timeout(SHORT).await, SHORT);
    }
    assert_eq!(third.circuit_breaker_state(), CircuitBreakerState::Closed);
    assert_eq!(third.stats().calls.timed_out, 4);
}

#[tokio::test]
async fn replacement_has_its_own_limit_of_log_lines() {
    let server = serve().await;
    let pool = AgentPool::with_config(config(Encoding::MessagePack));
    let config = AgentConfig::new("agent", server.path.to_str().unwrap());
    let first = pool.add(config.clone()).await.unwrap();
    assert_eq!(log_lines(&server, &first, 50).await, 50);

    let second = config.max_agent_logs_per_second(1);
    let second = pool.replace(second).await.unwrap();
    eventually("the replaced connection ends", async || {
        server.control.connections() == 1
    })
    .await;
    assert!(log_lines(&server, &second, 50).await < 10);
}

/// Lets an agent log this many lines. Returns how many of them reached the log.
async fn log_lines(server: &ServedAgent, agent: &Agent, count: u64) -> u64 {
    let before = agent.stats();
    let logged = || agent.stats().log_messages - before.log_messages;
    let left_out = || agent.stats().log_messages_left_out - before.log_messages_left_out;
    for sent in 1..=count {
        server.control.log(LogMessage::new(LogLevel::Info, "line"));
        eventually("the line is processed", async || {
            logged() + left_out() == sent
        })
        .await;
    }
    logged()
}

async fn listen(folder: &tempfile::TempDir, grace: Duration) -> Proxy {
    Proxy::listen_as(folder, config(Encoding::MessagePack), |config| {
        config.grace_time = grace;
    })
    .await
}

#[tokio::test]
async fn reverse_agent_is_kept_while_it_is_disconnected() {
    let folder = tempfile::tempdir().unwrap();
    let grace = Duration::from_millis(10);
    let proxy = listen(&folder, grace).await;
    let agent = proxy.pool.add(AgentConfig::reverse("agent")).await.unwrap();
    let event = request("c-1", "/");

    for answered in 0..3 {
        assert_fails!(agent.send("c-1", &event).await, Error::Unavailable { .. });
        assert_fails!(agent.exchange("c-1"), Error::Unavailable { .. });
        let stats = agent.stats();
        assert_eq!((stats.active_connections, stats.is_healthy), (0, false));
        assert_eq!(
            (&*stats.endpoint, stats.calls.answered),
            ("reverse", answered)
        );

        let dialing = dial(&proxy.endpoint);
        eventually("the agent connects", async || agent.is_healthy()).await;
        agent.send("c-1", &event).await.unwrap();
        dialing.stop().await;
        proxy.expect_connections("agent", 0).await;
        tokio::time::sleep(10 * grace).await;
        assert_eq!(agent_ids(&proxy.pool), ["agent"]);
    }
}

#[tokio::test]
async fn settings_of_a_reverse_agent_apply_to_its_connections() {
    let folder = tempfile::tempdir().unwrap();
    let proxy = listen(&folder, Duration::ZERO).await;
    let config = AgentConfig::reverse("agent")
        .timeout(SHORT)
        .failure_mode(FailureMode::Open)
        .encodings(vec![Encoding::Json])
        .max_concurrent_per_connection(1)
        .max_queued_calls(0);
    let agent = proxy.pool.add(config).await.unwrap();
    let allow = AgentResponse::default_allow();
    assert_eq!(
        agent.send("c-1", &request("c-1", "/block")).await.unwrap(),
        allow
    );

    let dialing = dial(&proxy.endpoint);
    eventually("the agent connects", async || agent.is_healthy()).await;
    assert_eq!(agent.encoding(), Some(Encoding::Json));
    let answer = agent.send("c-2", &request("c-2", "/block")).await.unwrap();
    assert!(matches!(answer.decision, Decision::Block { .. }));
    let timed_out = agent.send("c-3", &request("c-3", "/wait")).await.unwrap();
    assert_eq!(timed_out, allow);
    let stats = agent.stats();
    assert_eq!((stats.failed_open, stats.calls.timed_out), (2, 1));

    // The agent holds the only slot, and no call may wait for it.
    let event = request("c-4", "/wait");
    let mut holding = pin!(agent.send("c-4", &event).timeout(TEST_TIMEOUT));
    assert!(holding.as_mut().now_or_never().is_none());
    let rejected = agent.send("c-5", &request("c-5", "/block")).await.unwrap();
    assert_eq!(rejected, allow);
    assert_eq!(agent.stats().calls.queue_full, 1);
    dialing.release.notify_waiters();
}

/// An agent that registered itself gives its connections to the one that is added, if it owns the
/// name.
#[tokio::test]
async fn added_agent_takes_the_place_of_a_registered_one() {
    let folder = tempfile::tempdir().unwrap();
    let grace = Duration::from_millis(10);
    let proxy = listen(&folder, grace).await;
    let dialing = dial(&proxy.endpoint);
    proxy.expect_connections("agent", 1).await;
    let registered = proxy.agent();
    registered.send("c-1", &request("c-1", "/")).await.unwrap();

    let config = AgentConfig::reverse("agent").timeout(SHORT);
    let added = proxy.pool.add(config.clone()).await.unwrap();
    assert_fails!(registered.ping().await, Error::Replaced { .. });
    assert_fails!(
        proxy.pool.add(config.clone()).await,
        AddError::IdTaken { .. }
    );
    added.send("c-2", &request("c-2", "/")).await.unwrap();
    let stats = added.stats();
    assert_eq!((stats.active_connections, stats.calls.answered), (1, 2));
    expect_timeout(&added.send("c-3", &request("c-3", "/wait")).await, SHORT);

    let config = config.failure_mode(FailureMode::Open);
    let replacement = proxy.pool.replace(config).await.unwrap();
    let answer = replacement.send("c-4", &request("c-4", "/wait")).await;
    assert_eq!(answer.unwrap(), AgentResponse::default_allow());
    assert_eq!(replacement.stats().active_connections, 1);

    dialing.release.notify_waiters();
    dialing.stop().await;
    proxy.expect_connections("agent", 0).await;
    tokio::time::sleep(10 * grace).await;
    assert_eq!(agent_ids(&proxy.pool), ["agent"]);
}
