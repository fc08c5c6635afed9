//! The pool that asks the agents, and where its connections are served.

use crate::config::{Config, Connections, FailureMode};
use crate::patience::Patience;
use anyhow::Context;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use tokio::sync::oneshot;
use tollgate::{AgentPool, AgentPoolConfig, AgentProtocolError, Exchange, Placement};

/// The agents of a configuration.
pub struct Agents {
    config: Config,
    stages: Vec<Range<usize>>,
    pool: AgentPool,
    patience: Arc<Patience>,
    _keeper: Keeper,
}

/// The runtime that looks after the pool, on a thread of its own that ends when this is dropped.
struct Keeper {
    _stop: oneshot::Sender<()>,
}

impl Agents {
    /// Connects to the agents.
    ///
    /// # Errors
    ///
    /// An endpoint is wrong, or there is no thread to be had. That an agent is not there is no error.
    pub fn start(config: &Config) -> anyhow::Result<Self> {
        let patience = Arc::default();
        let (pool, keeper) = connect(config, Arc::clone(&patience))?;
        Ok(Self {
            stages: config.stages(),
            config: config.clone(),
            pool,
            patience,
            _keeper: keeper,
        })
    }

    /// An exchange with each agent, in their order.
    ///
    /// # Errors
    ///
    /// An agent that fails closed is unavailable.
    pub fn exchanges(&self, correlation_id: &str) -> Result<Vec<Exchange>, AgentProtocolError> {
        let mut exchanges = Vec::with_capacity(self.config.agents.len());
        for agent in &self.config.agents {
            exchanges.push(self.pool.exchange(&agent.name, correlation_id)?);
        }
        Ok(exchanges)
    }

    /// Ends when who began to wait for an agent had better look whether anybody still waits for him: after 10 to 20 ms.
    pub async fn patience(&self) {
        self.patience.end().await;
    }

    /// Which exchanges are asked at once, group by group.
    pub fn stages(&self) -> &[Range<usize>] {
        &self.stages
    }

    /// What was configured.
    pub fn config(&self) -> &Config {
        &self.config
    }
}

/// A pool that is looked after on a thread of its own, since Pingora's workers begin later and end earlier.
fn connect(config: &Config, patience: Arc<Patience>) -> anyhow::Result<(AgentPool, Keeper)> {
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
                // Whoever waits for it has given up if it is not taken.
                let _ = ready.send(pool_of(&config).await);
                tokio::select! {
                    // Ends with an error, since nothing is sent.
                    _ = stopped => {}
                    () = patience.tick() => {}
                }
            });
        })?;
    let pool = is_ready.recv().context("the agents' thread ended")??;
    Ok((pool, Keeper { _stop: stop }))
}

/// A pool that is looked after on the runtime that this runs on.
async fn pool_of(config: &Config) -> Result<AgentPool, AgentProtocolError> {
    let pool = AgentPool::with_config(AgentPoolConfig {
        connections_per_agent: config.connections_per_agent,
        placement: match config.connections {
            Connections::Shared => Placement::Shared,
            Connections::PerRuntime => Placement::PerRuntime,
        },
        request_timeout: config.agent_timeout(),
        queue_timeout: config.agent_timeout(),
        skip_unsubscribed_events: true,
        ..AgentPoolConfig::default()
    });
    for agent in &config.agents {
        pool.add_agent(&*agent.name, &*agent.endpoint).await?;
        let mode = match agent.failure_mode {
            FailureMode::Closed => tollgate::FailureMode::Closed,
            FailureMode::Open => tollgate::FailureMode::Open,
        };
        pool.set_failure_mode(&agent.name, mode)?;
    }
    Ok(pool)
}

/// Numbers requests: unique in this process and, but for an unlikely chance, among proxies.
pub struct RequestIds {
    prefix: u64,
    next: AtomicU64,
}

impl RequestIds {
    /// Begins anew.
    pub fn new() -> Arc<Self> {
        use std::hash::{BuildHasher, RandomState};
        Arc::new(Self {
            prefix: RandomState::new().hash_one(std::process::id()),
            next: AtomicU64::new(0),
        })
    }

    /// One that was not there before.
    pub fn next(&self) -> String {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        format!("{:016x}-{number:x}", self.prefix)
    }
}
