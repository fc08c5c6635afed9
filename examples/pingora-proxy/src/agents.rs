//! The pool that asks the agents, and where its connections are served.

use crate::config::{Config, Connections, FailureMode};
use anyhow::Context;
use std::cell::RefCell;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use tokio::sync::oneshot;
use tollgate::{AgentPool, AgentPoolConfig, AgentProtocolError, Exchange};

/// The agents of a configuration.
pub struct Agents {
    config: Config,
    stages: Vec<Range<usize>>,
    serving: Serving,
}

enum Serving {
    Shared {
        pool: AgentPool,
        _runtime: Keeper,
    },
    /// Tells the pools of several proxies in one process apart.
    PerWorker {
        proxy: u64,
    },
}

/// Ends the thread of the shared connections when it is dropped.
struct Keeper {
    _stop: oneshot::Sender<()>,
}

thread_local! {
    /// The pools of this worker, each with the number of its proxy.
    static OWN: RefCell<Vec<(u64, AgentPool)>> = const { RefCell::new(Vec::new()) };
}

impl Agents {
    /// Connects to the agents, unless the workers are to do so.
    ///
    /// # Errors
    ///
    /// An endpoint is wrong, or there is no thread to be had. That an agent is not there is no error.
    pub fn start(config: &Config) -> anyhow::Result<Self> {
        static PROXIES: AtomicU64 = AtomicU64::new(0);
        let serving = match config.connections {
            Connections::Shared => share(config)?,
            Connections::PerWorker => Serving::PerWorker {
                proxy: PROXIES.fetch_add(1, Ordering::Relaxed),
            },
        };
        Ok(Self {
            stages: config.stages(),
            config: config.clone(),
            serving,
        })
    }

    /// An exchange with each agent, in their order.
    ///
    /// # Errors
    ///
    /// An agent that fails closed is unavailable.
    pub async fn exchanges(
        &self,
        correlation_id: &str,
    ) -> Result<Vec<Exchange>, AgentProtocolError> {
        let begin = |pool: &AgentPool| {
            let agents = self.config.agents.iter();
            agents
                .map(|agent| pool.exchange(&agent.name, correlation_id))
                .collect()
        };
        match &self.serving {
            Serving::Shared { pool, .. } => begin(pool),
            Serving::PerWorker { proxy } => begin(&own_pool(*proxy, &self.config).await?),
        }
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

/// A pool whose connections live on a thread of their own, so that they outlive every worker.
fn share(config: &Config) -> anyhow::Result<Serving> {
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
                // Ends with an error, since nothing is sent.
                let _ = stopped.await;
            });
        })?;
    let pool = is_ready.recv().context("the agents' thread ended")??;
    Ok(Serving::Shared {
        pool,
        _runtime: Keeper { _stop: stop },
    })
}

/// The pool of the worker that this runs on.
async fn own_pool(proxy: u64, config: &Config) -> Result<AgentPool, AgentProtocolError> {
    let known = || {
        OWN.with_borrow(|pools| {
            let own = pools.iter().find(|(number, _)| *number == proxy);
            own.map(|(_, pool)| pool.clone())
        })
    };
    if let Some(pool) = known() {
        return Ok(pool);
    }
    let made = pool_of(config).await?;
    // Another request may have been faster.
    Ok(known().unwrap_or_else(|| {
        OWN.with_borrow_mut(|pools| pools.push((proxy, made.clone())));
        made
    }))
}

/// A pool on the runtime that this runs on.
async fn pool_of(config: &Config) -> Result<AgentPool, AgentProtocolError> {
    let pool = AgentPool::with_config(AgentPoolConfig {
        connections_per_agent: config.connections_per_agent,
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
