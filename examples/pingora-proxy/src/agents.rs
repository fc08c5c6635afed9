//! The pool of the agents, and the thread that maintains it.

use crate::coarse_timer::CoarseTimer;
use crate::config::{Config, Connections, FailureMode};
use anyhow::Context;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use tokio::sync::oneshot;
use tollgate::{
    AddError, Agent, AgentConfig, AgentPool, AgentPoolConfig, CallError, Exchange, Placement,
    proxy::HeldBody,
};

/// The configured agents and their pool.
pub struct Agents {
    config: Config,
    stages: Vec<Range<usize>>,
    handles: Handles,
    timer: Arc<CoarseTimer>,
    _maintenance: MaintenanceThread,
}

/// A thread with a runtime for the pool's maintenance. It ends when this is dropped.
struct MaintenanceThread {
    _stop: oneshot::Sender<()>,
}

impl Agents {
    /// Creates the pool, which connects to the agents in the background.
    ///
    /// # Errors
    ///
    /// Returns an error if a name or an endpoint is invalid, or the thread cannot be started. An
    /// unreachable agent is not an error.
    pub fn start(config: &Config) -> anyhow::Result<Self> {
        let timer = Arc::default();
        let (handles, maintenance) = connect(config, Arc::clone(&timer))?;
        Ok(Self {
            stages: config.stages(),
            config: config.clone(),
            handles,
            timer,
            _maintenance: maintenance,
        })
    }

    /// Opens an exchange with each agent, in the configured order.
    ///
    /// # Errors
    ///
    /// Returns an error if an agent that fails closed is unavailable.
    pub fn exchanges(&self, correlation_id: &str) -> Result<Vec<Exchange>, CallError> {
        let agents = &self.handles.agents;
        let mut exchanges = Vec::with_capacity(agents.len());
        for agent in agents {
            exchanges.push(agent.exchange(correlation_id)?);
        }
        Ok(exchanges)
    }

    /// Returns a body that holds what the configuration allows, within the pool's memory limit.
    pub fn held_body(&self) -> HeldBody {
        HeldBody::with_limit(self.config.max_held_body).charged_to(&self.handles.pool)
    }

    /// Waits 10 to 20 ms. A caller that still waits for an agent then checks whether the client is
    /// still connected.
    pub async fn wait_before_client_check(&self) {
        self.timer.wait().await;
    }

    /// Returns the groups of exchanges that are asked concurrently, in order.
    pub fn stages(&self) -> &[Range<usize>] {
        &self.stages
    }

    /// Returns the configuration.
    pub fn config(&self) -> &Config {
        &self.config
    }
}

/// Handles of the pool and its agents.
struct Handles {
    /// The agents are usable only while this exists.
    pool: AgentPool,
    /// The agents in the configured order.
    agents: Vec<Agent>,
}

/// Creates a pool whose maintenance runs on its own thread, because Pingora's workers start later
/// and end earlier.
fn connect(
    config: &Config,
    timer: Arc<CoarseTimer>,
) -> anyhow::Result<(Handles, MaintenanceThread)> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let (stop, stopped) = oneshot::channel();
    let (ready, is_ready) = std::sync::mpsc::channel();
    let config = config.clone();
    thread::Builder::new()
        .name("agents".to_owned())
        .spawn(move || {
            runtime.block_on(async {
                // Fails only if the receiver below is gone.
                let _ = ready.send(create_pool(&config).await);
                tokio::select! {
                    // Resolves with an error when the sender is dropped; nothing is ever sent.
                    _ = stopped => {}
                    () = timer.run() => {}
                }
            });
        })?;
    let handles = is_ready
        .recv()
        .context("the thread that maintains the pool of agents ended")??;
    Ok((handles, MaintenanceThread { _stop: stop }))
}

/// Creates a pool whose maintenance runs on the current runtime.
async fn create_pool(config: &Config) -> Result<Handles, AddError> {
    let pool = AgentPool::with_config(
        AgentPoolConfig::default()
            .connections_per_agent(config.connections_per_agent)
            .placement(match config.connections {
                Connections::Shared => Placement::Shared,
                Connections::PerRuntime => Placement::PerRuntime,
            })
            .request_timeout(config.agent_timeout())
            .queue_timeout(config.agent_timeout())
            .skip_unsubscribed_events(true),
    );
    let mut agents = Vec::with_capacity(config.agents.len());
    for agent in &config.agents {
        let mode = match agent.failure_mode {
            FailureMode::Closed => tollgate::FailureMode::Closed,
            FailureMode::Open => tollgate::FailureMode::Open,
        };
        let agent = AgentConfig::new(&*agent.name, &*agent.endpoint).failure_mode(mode);
        agents.push(pool.add(agent).await?);
    }
    Ok(Handles { pool, agents })
}

/// Generates correlation ids. They are unique in this process and, with high probability, among
/// proxies.
pub struct RequestIds {
    prefix: u64,
    next: AtomicU64,
}

impl RequestIds {
    /// Creates a generator with a random prefix.
    pub fn new() -> Arc<Self> {
        use std::hash::{BuildHasher, RandomState};
        Arc::new(Self {
            prefix: RandomState::new().hash_one(std::process::id()),
            next: AtomicU64::new(0),
        })
    }

    /// Returns a new id.
    pub fn next(&self) -> String {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        format!("{:016x}-{number:x}", self.prefix)
    }
}
