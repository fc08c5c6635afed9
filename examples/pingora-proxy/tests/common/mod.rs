//! A proxy between an upstream and agents, all of which say what they saw.

#![allow(
    dead_code,
    unreachable_pub,
    clippy::unwrap_used,
    reason = "each test file uses a part of it; what fails here fails the test"
)]

use std::sync::atomic::{AtomicU8, Ordering};
use std::time::Duration;
use tempfile::TempDir;
use tollgate::EventType;
use tollgate_pingora::client::Client;
use tollgate_pingora::config::{Agent, Config, Connections, FailureMode, Role};
use tollgate_pingora::demo::own_address;
use tollgate_pingora::rules::{Notes, RuleAgent, Served};
use tollgate_pingora::server::Running;
use tollgate_pingora::upstream::{Memory, Seen, Upstream};

/// Longer than anything here takes, shorter than anybody would wait.
pub const PATIENCE: Duration = Duration::from_secs(20);

pub const HEADS: &[EventType] = &[EventType::RequestHeaders, EventType::RequestComplete];
pub const REQUESTS: &[EventType] = &[
    EventType::RequestHeaders,
    EventType::RequestBodyChunk,
    EventType::RequestComplete,
];
pub const EVERYTHING: &[EventType] = &EventType::ALL;

/// An agent of a [`Place`].
pub struct Wanted {
    pub name: &'static str,
    pub events: &'static [EventType],
    pub role: Role,
    pub failure_mode: FailureMode,
}

pub const fn decides(name: &'static str, events: &'static [EventType]) -> Wanted {
    Wanted {
        name,
        events,
        role: Role::Decides,
        failure_mode: FailureMode::Closed,
    }
}

pub const fn changes(name: &'static str, events: &'static [EventType]) -> Wanted {
    Wanted {
        role: Role::Changes,
        ..decides(name, events)
    }
}

pub struct Place {
    pub proxy: Option<Running>,
    pub upstream: Upstream,
    pub agents: Vec<Option<Served>>,
    pub notes: Vec<Notes>,
    folder: TempDir,
}

impl Place {
    pub async fn with(wanted: &[Wanted]) -> Self {
        Self::configured(wanted, |_| {}).await
    }

    pub async fn configured(wanted: &[Wanted], configure: impl FnOnce(&mut Config)) -> Self {
        let folder = TempDir::new().unwrap();
        let upstream = Upstream::start("127.0.0.1:0".parse().unwrap(), Memory::Everything)
            .await
            .unwrap();
        let mut config = config(&upstream);
        let (mut agents, mut notes) = (Vec::new(), Vec::new());
        for agent in wanted {
            let socket = folder.path().join(agent.name);
            let handler = RuleAgent::new(agent.name, agent.events);
            notes.push(handler.notes());
            agents.push(Some(Served::start(&socket, handler).await.unwrap()));
            config.agents.push(Agent {
                name: agent.name.to_owned(),
                endpoint: socket.to_str().unwrap().to_owned(),
                failure_mode: agent.failure_mode,
                role: agent.role,
            });
        }
        configure(&mut config);
        let starting = tokio::task::spawn_blocking(move || Running::start(&config));
        Self {
            proxy: Some(starting.await.unwrap().unwrap()),
            upstream,
            agents,
            notes,
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

    pub async fn start_again(&self, name: &'static str, events: &'static [EventType]) -> Served {
        let agent = RuleAgent::new(name, events);
        Served::start(&self.folder.path().join(name), agent)
            .await
            .unwrap()
    }

    pub fn seen(&self) -> Vec<Seen> {
        self.upstream.seen().clone()
    }

    pub fn last_seen(&self) -> Seen {
        self.seen().pop().unwrap()
    }
}

fn config(upstream: &Upstream) -> Config {
    static PROXIES: AtomicU8 = AtomicU8::new(0);
    Config {
        listen: own_address(PROXIES.fetch_add(1, Ordering::Relaxed)),
        upstream: upstream.address(),
        threads: 2,
        work_stealing: true,
        connections: Connections::default(),
        connections_per_agent: 2,
        agent_timeout_ms: 10_000,
        max_held_body: 1 << 16,
        agents: Vec::new(),
    }
}

impl Drop for Place {
    /// A proxy's threads are waited for, which others of this process should not notice.
    fn drop(&mut self) {
        let proxy = self.proxy.take();
        std::thread::spawn(move || drop(proxy));
    }
}

/// Waits until a condition holds, looking again whenever other tasks have run.
pub async fn eventually(what: &str, mut condition: impl FnMut() -> bool) {
    let looked = tokio::time::timeout(PATIENCE, async {
        while !condition() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    });
    assert!(looked.await.is_ok(), "never happened: {what}");
}

/// All values of a header.
pub fn values(headers: &http::HeaderMap, name: &str) -> Vec<String> {
    let values = headers.get_all(name).iter();
    values
        .map(|value| value.to_str().unwrap().to_owned())
        .collect()
}
