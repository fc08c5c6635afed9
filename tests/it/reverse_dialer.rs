//! Agents that connect to proxies keep their connections, whatever happens to the proxies.

use crate::common::{
    DialingAgent, Proxy, RawAgent, config, dial, dial_with, eventually, message, request,
};
use serde_json::json;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tollgate::error::BindError;
use tollgate::{
    AgentCapabilities, AgentHandler, AgentPoolConfig, AgentResponse, AgentServer, CallError,
    Encoding, RequestHeadersView,
};

const SOON: Duration = Duration::from_millis(20);

async fn expect_sessions(agent: &DialingAgent, count: usize) {
    eventually("the agent has its connections", async || {
        agent.control.connections() == count
    })
    .await;
}

#[tokio::test]
async fn dialer_keeps_its_connections_to_each_proxy() {
    let folders = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
    let unix = Proxy::listen(&folders[0]).await;
    let tcp = Proxy::listen_on_tcp(AgentPoolConfig::default()).await;
    let agent = dial_with(|dialer| {
        let dialer = dialer.dial(&unix.endpoint).dial(&tcp.endpoint);
        dialer.dial_connections(3).reconnect_interval(SOON)
    });

    expect_sessions(&agent, 6).await;
    for proxy in [&unix, &tcp] {
        proxy.expect_connections("agent", 3).await;
        proxy.agent().send("c", &request("c", "/")).await.unwrap();
    }

    unix.pool.unpin("c");

    // One proxy drops the agent, which reconnects. The other proxy is not affected.
    unix.pool.remove("agent").unwrap();
    unix.expect_connections("agent", 3).await;
    let stats = tcp.pool.agent("agent").unwrap().stats();
    assert_eq!(stats.faults.connections_lost, 0);
    assert_eq!(tcp.listener.registered(), 3);
    assert_eq!(unix.listener.registered(), 6);
    agent.stop().await;
}

#[tokio::test]
async fn dialer_retries_until_the_proxy_listens() {
    let folder = tempfile::tempdir().unwrap();
    let agent = dial_with(|dialer| {
        let endpoint = folder.path().join("proxy.sock").display().to_string();
        dialer.dial(endpoint).reconnect_interval(SOON)
    });
    tokio::time::sleep(3 * SOON).await;

    for _ in 0..3 {
        let proxy = Proxy::listen(&folder).await;
        proxy.expect_connections("agent", 1).await;
        expect_sessions(&agent, 1).await;
        proxy.agent().send("c", &request("c", "/")).await.unwrap();
        proxy.listener.stop();
        proxy.accepting.await.unwrap();
        drop(proxy.pool);
        expect_sessions(&agent, 0).await;
    }
    agent.stop().await;
}

/// `localhost` has several addresses, and the proxy listens on only one of them.
#[tokio::test]
async fn dialer_tries_every_address_of_a_name() {
    let proxy = Proxy::listen_at("127.0.0.1:0", AgentPoolConfig::default()).await;
    let port = proxy.listener.local_addr().unwrap().port();
    let _agent = dial(&format!("tcp://localhost:{port}"));
    proxy.expect_connections("agent", 1).await;
}

#[tokio::test]
async fn invalid_endpoints_are_rejected_at_once() {
    for endpoint in ["", "proxy:7000", "tcp://proxy", "http://proxy:1"] {
        let dialer = AgentServer::builder(crate::common::RuleAgent::default()).dial(endpoint);
        assert_fails!(dialer.serve().await, BindError::InvalidEndpoint { .. });
    }
}

#[tokio::test]
async fn proxy_without_the_extension_gets_zentinel_json() {
    let folder = tempfile::tempdir().unwrap();
    let plain = config(Encoding::MessagePack).use_extension(false);
    let proxy = Proxy::listen_as(&folder, plain, |_| {}).await;

    let agent = dial(&proxy.endpoint);
    proxy.expect_connections("agent", 1).await;
    let handle = proxy.agent();
    handle.send("c", &request("c", "/")).await.unwrap();

    assert_eq!(handle.encoding(), Some(Encoding::Json));
    assert_eq!(handle.uses_extension(), Some(false));
    agent.stop().await;
}

#[tokio::test]
async fn dialer_finishes_its_exchanges_before_it_stops() {
    let folder = tempfile::tempdir().unwrap();
    let proxy = Proxy::listen(&folder).await;
    let leaving = dial(&proxy.endpoint);
    proxy.expect_connections("agent", 1).await;
    let handle = proxy.agent();
    let calling = handle.clone();
    let waiting = tokio::spawn(async move { calling.send("w", &request("w", "/wait")).await });
    eventually("the event arrives", async || {
        leaving.seen.lock().unwrap().len() == 1
    })
    .await;

    let release = leaving.release.clone();
    let done = leaving.begin_stop();
    eventually("the agent gets no new exchanges", async || {
        !handle.is_healthy()
    })
    .await;
    // A second instance takes the new exchanges while the first one finishes.
    let other = dial(&proxy.endpoint);
    proxy.expect_connections("agent", 2).await;
    for n in 0..10 {
        let id = n.to_string();
        handle.send(&id, &request(&id, "/")).await.unwrap();
    }
    assert_eq!(other.seen.lock().unwrap().len(), 10);
    assert!(!done.is_finished());
    release.notify_one();
    waiting.await.unwrap().unwrap();
    done.await.unwrap();
    proxy.expect_connections("agent", 1).await;
}

/// A proxy uses a connection as soon as it has answered the registration, so it must be drained.
#[tokio::test]
async fn dialer_stopped_while_registering_drains_first() {
    let proxy = RawAgent::listen();
    let agent = dial(&proxy.path.display().to_string());
    let mut connection = proxy.accept().await;
    assert_eq!(connection.message().await.0, message::HANDSHAKE_REQUEST);

    let stopped = agent.begin_stop();
    for _ in 0..100 {
        tokio::task::yield_now().await;
    }

    let tollgate = json!({"version": 1, "encoding": "json"});
    let accepted =
        json!({"success": true, "proxy_id": "p", "connection_id": "1", "tollgate": tollgate});
    connection
        .send_value(message::HANDSHAKE_RESPONSE, &accepted)
        .await;

    // The report is sent in both forms.
    for state in [json!(3), json!({"status": "draining", "eta_ms": null})] {
        let (message, health) = connection.message().await;
        assert_eq!(
            (message, &health["state"]),
            (message::HEALTH_STATUS, &state)
        );
    }

    let (message, ping) = connection.message().await;
    assert_eq!(message, message::PING);
    connection.send_value(message::PONG, &ping).await;
    connection.expect_end().await;
    stopped.await.unwrap();
}

/// Under traffic, two instances are replaced in turn, and no call is lost.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn replacing_instances_under_load_loses_no_call() {
    let folder = tempfile::tempdir().unwrap();
    let proxy = Proxy::listen_as(&folder, AgentPoolConfig::default(), |config| {
        config.max_connections_per_agent = 8;
    })
    .await;
    let start = || dial_with(|dialer| dialer.dial(&proxy.endpoint).dial_connections(2));
    let mut instances = [start(), start()];
    proxy.expect_connections("agent", 4).await;

    let is_over = Arc::new(AtomicBool::new(false));
    let callers: Vec<_> = (0..8)
        .map(|caller| {
            let (pool, is_over) = (Arc::clone(&proxy.pool), Arc::clone(&is_over));
            tokio::spawn(async move {
                let mut calls = 0;
                while !is_over.load(Ordering::Relaxed) {
                    let id = format!("{caller}-{calls}");
                    pool.agent("agent")
                        .unwrap()
                        .send(&id, &request(&id, "/"))
                        .await
                        .unwrap();
                    pool.unpin(&id);
                    calls += 1;
                }
                calls
            })
        })
        .collect();

    for round in 0..6 {
        let leaving = std::mem::replace(&mut instances[round % 2], start());
        leaving.stop().await;
        // Old connections may still be open here, but they are draining.
        eventually("the new instance is used", async || {
            let stats = proxy.pool.agent("agent").map(|agent| agent.stats());
            stats.is_some_and(|stats| stats.healthy_connections == 4)
        })
        .await;
    }

    is_over.store(true, Ordering::Relaxed);
    for caller in callers {
        assert!(caller.await.unwrap() > 0);
    }
}

struct Fragile;

impl AgentHandler for Fragile {
    fn capabilities(&self) -> AgentCapabilities {
        AgentCapabilities::new("agent", "Fragile", "1")
    }

    async fn on_request_headers(&self, event: RequestHeadersView<'_>) -> AgentResponse {
        assert_ne!(event.uri, "/panic", "on purpose");
        AgentResponse::default_allow()
    }
}

#[tokio::test]
async fn panicking_handler_loses_only_its_connection() {
    let folder = tempfile::tempdir().unwrap();
    let proxy = Proxy::listen(&folder).await;
    let dialer = AgentServer::builder(Fragile)
        .dial(&proxy.endpoint)
        .dial_connections(1)
        .reconnect_interval(SOON);
    tokio::spawn(dialer.serve());

    for round in 1..=3 {
        eventually("the agent is registered", async || {
            proxy.listener.registered() == round
        })
        .await;
        proxy.expect_connections("agent", 1).await;
        proxy.agent().send("c", &request("c", "/")).await.unwrap();

        let panicked = proxy.agent().send("p", &request("p", "/panic")).await;
        assert_fails!(panicked, CallError::ConnectionClosed { .. });
    }
}
