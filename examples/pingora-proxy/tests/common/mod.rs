//! A proxy between an upstream and agents, which record what they receive.

#![allow(
    dead_code,
    unreachable_pub,
    clippy::unwrap_used,
    reason = "each test file uses a part of this module; a panic fails the test"
)]

use std::sync::atomic::{AtomicU8, Ordering};
use std::time::Duration;
use tempfile::TempDir;
use tollgate::EventType;
use tollgate_example_settings::{AgentSettings, FailureMode, Role, Settings};
use tollgate_pingora::client::Client;
use tollgate_pingora::demo::own_address;
use tollgate_pingora::rules::{EventRecord, RuleAgent, RunningAgent};
use tollgate_pingora::server::Running;
use tollgate_pingora::upstream::{ReceivedRequest, Recording, Upstream};

/// Time limit for any step of a test, far above what it takes.
pub const TEST_TIMEOUT: Duration = Duration::from_secs(20);

pub const HEADS: &[EventType] = &[EventType::RequestHeaders, EventType::RequestComplete];
pub const REQUESTS: &[EventType] = &[
    EventType::RequestHeaders,
    EventType::RequestBodyChunk,
    EventType::RequestComplete,
];
pub const EVERYTHING: &[EventType] = &EventType::ALL;

/// Description of an agent of a [`Setup`].
pub struct AgentSetup {
    pub name: &'static str,
    pub events: &'static [EventType],
    pub role: Role,
    pub failure_mode: FailureMode,
}

pub const fn decides(name: &'static str, events: &'static [EventType]) -> AgentSetup {
    AgentSetup {
        name,
        events,
        role: Role::Decides,
        failure_mode: FailureMode::Closed,
    }
}

pub const fn changes(name: &'static str, events: &'static [EventType]) -> AgentSetup {
    AgentSetup {
        role: Role::Changes,
        ..decides(name, events)
    }
}

/// A running proxy with its upstream and agents.
pub struct Setup {
    pub proxy: Option<Running>,
    pub upstream: Upstream,
    pub agents: Vec<Option<RunningAgent>>,
    pub records: Vec<EventRecord>,
    folder: TempDir,
}

impl Setup {
    pub async fn with(wanted: &[AgentSetup]) -> Self {
        Self::configured(wanted, |_| {}).await
    }

    pub async fn configured(wanted: &[AgentSetup], configure: impl FnOnce(&mut Settings)) -> Self {
        let folder = TempDir::new().unwrap();
        let upstream = Upstream::start("127.0.0.1:0".parse().unwrap(), Recording::All)
            .await
            .unwrap();
        let mut settings = settings(&upstream);
        let (mut agents, mut records) = (Vec::new(), Vec::new());
        for agent in wanted {
            let socket = folder.path().join(agent.name);
            let handler = RuleAgent::new(agent.name, agent.events);
            records.push(handler.record());
            agents.push(Some(RunningAgent::start(&socket, handler).await.unwrap()));
            settings.agents.push(AgentSettings {
                failure_mode: agent.failure_mode,
                role: agent.role,
                ..AgentSettings::new(agent.name, socket.to_str().unwrap())
            });
        }
        configure(&mut settings);
        let starting = tokio::task::spawn_blocking(move || Running::start(&settings));
        Self {
            proxy: Some(starting.await.unwrap().unwrap()),
            upstream,
            agents,
            records,
            folder,
        }
    }

    pub async fn client(&self) -> Client {
        Client::http1(self.proxy.as_ref().unwrap().address())
            .await
            .unwrap()
    }

    pub async fn http2_client(&self) -> Client {
        Client::http2(self.proxy.as_ref().unwrap().address())
            .await
            .unwrap()
    }

    pub async fn kill(&mut self, agent: usize) {
        self.agents[agent].take().unwrap().kill().await;
    }

    pub async fn start_again(
        &self,
        name: &'static str,
        events: &'static [EventType],
    ) -> RunningAgent {
        let agent = RuleAgent::new(name, events);
        RunningAgent::start(&self.folder.path().join(name), agent)
            .await
            .unwrap()
    }

    pub fn seen(&self) -> Vec<ReceivedRequest> {
        self.upstream.seen().clone()
    }

    pub fn last_seen(&self) -> ReceivedRequest {
        self.seen().pop().unwrap()
    }
}

fn settings(upstream: &Upstream) -> Settings {
    static PROXIES: AtomicU8 = AtomicU8::new(0);
    let address = own_address(PROXIES.fetch_add(1, Ordering::Relaxed));
    Settings {
        threads: 2,
        connections_per_agent: 2,
        agent_timeout_ms: 10_000,
        max_held_body: 1 << 16,
        ..Settings::new(address, upstream.address())
    }
}

impl Drop for Setup {
    /// Drops the proxy on another thread, because that blocks until the proxy's threads have ended.
    fn drop(&mut self) {
        let proxy = self.proxy.take();
        std::thread::spawn(move || drop(proxy));
    }
}

/// Waits until a condition holds, checking it every millisecond.
pub async fn eventually(description: &str, mut condition: impl FnMut() -> bool) {
    let waited = tokio::time::timeout(TEST_TIMEOUT, async {
        while !condition() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    });
    assert!(waited.await.is_ok(), "timed out waiting: {description}");
}

/// Returns all values of a header.
pub fn values(headers: &http::HeaderMap, name: &str) -> Vec<String> {
    let values = headers.get_all(name).iter();
    values
        .map(|value| value.to_str().unwrap().to_owned())
        .collect()
}
