use super::{RuleAgent, TEST_TIMEOUT, eventually};
use serde_json::{Value, json};
use std::path::Path;
use std::sync::{Arc, Mutex};
use tempfile::TempDir;
use tokio::sync::{Notify, oneshot};
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tollgate::{
    Agent, AgentControl, AgentPool, AgentPoolConfig, AgentServer, AgentServerBuilder, CancelReason,
    ReverseConnectionConfig, ReverseConnectionListener,
};

/// Pool with a listener that agents connect to.
pub struct Proxy {
    pub pool: Arc<AgentPool>,
    pub listener: Arc<ReverseConnectionListener>,
    pub accepting: JoinHandle<()>,
    /// Endpoint for dialers.
    pub endpoint: String,
}

impl Proxy {
    /// Listens on a Unix socket in a folder, with the default configuration of the pool.
    pub async fn listen(folder: &TempDir) -> Self {
        Self::listen_as(folder, AgentPoolConfig::default(), |_| {}).await
    }

    pub async fn listen_as(
        folder: &TempDir,
        config: AgentPoolConfig,
        change: impl FnOnce(&mut ReverseConnectionConfig),
    ) -> Self {
        let path = folder.path().join("proxy.sock");
        let listener = ReverseConnectionListener::bind_uds(&path, listener_config(change));
        let listener = listener.await.unwrap();
        Self::accept(listener, config, path.display().to_string())
    }

    /// Listens on a port of the loopback, without authentication.
    pub async fn listen_on_tcp(config: AgentPoolConfig) -> Self {
        Self::listen_at("127.0.0.1:0", config).await
    }

    pub async fn listen_at(address: &str, config: AgentPoolConfig) -> Self {
        let open = listener_config(|config| config.require_auth = false);
        let listener = ReverseConnectionListener::bind_tcp(address, open).await;
        let listener = listener.unwrap();
        let endpoint = format!("tcp://{}", listener.local_addr().unwrap());
        Self::accept(listener, config, endpoint)
    }

    pub fn accept(
        listener: ReverseConnectionListener,
        config: AgentPoolConfig,
        endpoint: String,
    ) -> Self {
        let pool = Arc::new(AgentPool::with_config(config));
        let listener = Arc::new(listener);
        let accepting = tokio::spawn(Arc::clone(&listener).accept_loop(Arc::clone(&pool)));
        Self {
            pool,
            listener,
            accepting,
            endpoint,
        }
    }

    pub fn path(&self) -> &Path {
        self.listener.socket_path().unwrap()
    }

    /// Returns the agent named "agent", which must have connected.
    pub fn agent(&self) -> Agent {
        self.pool.agent("agent").unwrap()
    }

    /// Returns the number of open connections of an agent.
    pub async fn connections_of(&self, agent_id: &str) -> usize {
        let stats = self.pool.agent(agent_id).map(|agent| agent.stats());
        stats.map_or(0, |stats| stats.active_connections)
    }

    /// Waits until an agent has this many connections.
    pub async fn expect_connections(&self, agent_id: &str, count: usize) {
        eventually("the agent has its connections", async || {
            self.connections_of(agent_id).await == count
        })
        .await;
    }
}

fn listener_config(change: impl FnOnce(&mut ReverseConnectionConfig)) -> ReverseConnectionConfig {
    let mut config = ReverseConnectionConfig::default();
    change(&mut config);
    config
}

/// [`RuleAgent`] that connects to proxies.
pub struct DialingAgent {
    pub seen: Arc<Mutex<Vec<Value>>>,
    pub release: Arc<Notify>,
    pub cancelled: Arc<Mutex<Vec<(String, CancelReason)>>>,
    pub control: AgentControl,
    stop: oneshot::Sender<()>,
    done: JoinHandle<()>,
}

impl DialingAgent {
    /// Asks the dialer to stop.
    pub fn begin_stop(self) -> JoinHandle<()> {
        self.stop.send(()).unwrap();
        self.done
    }

    /// Stops the dialer gracefully and waits until it has ended.
    pub async fn stop(self) {
        let done = self.begin_stop();
        timeout(TEST_TIMEOUT, done)
            .await
            .expect("the dialer does not stop")
            .unwrap();
    }

    /// Ends the dialer as if its process had ended.
    pub fn kill(self) {
        self.done.abort();
    }
}

/// Starts an agent named "agent" with one connection to a proxy.
pub fn dial(endpoint: &str) -> DialingAgent {
    dial_with(|dialer| dialer.dial(endpoint))
}

/// Starts an agent named "agent", on a dialer changed by `configure`.
pub fn dial_with(
    configure: impl FnOnce(AgentServerBuilder<RuleAgent>) -> AgentServerBuilder<RuleAgent>,
) -> DialingAgent {
    let agent = RuleAgent::default();
    let (seen, release, cancelled) = (
        agent.seen.clone(),
        agent.release.clone(),
        agent.cancelled.clone(),
    );
    let dialer = AgentServer::builder(agent)
        .agent_id("agent")
        .dial_connections(1);
    let dialer = configure(dialer);
    let control = dialer.control();
    let (stop, stopped) = oneshot::channel();
    let done = tokio::spawn(async move {
        let shutdown = async {
            // A dropped handle leaves the agent running until the test's runtime ends.
            if stopped.await.is_err() {
                std::future::pending::<()>().await;
            }
        };
        dialer.serve_until(shutdown).await.unwrap();
    });
    DialingAgent {
        seen,
        release,
        cancelled,
        control,
        stop,
        done,
    }
}

/// Returns a registration as agents on `zentinel-agent-protocol` write it.
pub fn registration(agent_id: &str, token: Option<&str>) -> Value {
    json!({
        "protocol_version": 2,
        "agent_id": agent_id,
        "capabilities": {
            "agent_id": agent_id, "name": "Raw", "version": "1", "supported_events": [1, 2, 3, 4],
            "features": {
                "streaming_body": true, "websocket": false, "guardrails": true,
                "config_push": false, "metrics_export": false, "concurrent_requests": 10,
                "cancellation": true, "flow_control": false, "health_reporting": false,
            },
            "limits": {
                "max_body_size": 1_048_576, "max_concurrency": 10, "preferred_chunk_size": 65_536,
            },
        },
        "auth_token": token,
        "metadata": null,
    })
}
