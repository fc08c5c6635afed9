//! The agents, and the thread that maintains the connections to them.

use crate::coarse_timer::CoarseTimer;
use anyhow::Context;
use std::sync::Arc;
use std::thread;
use tokio::sync::oneshot;
use tollgate::proxy::AgentChain;
use tollgate_example_settings::Settings;

/// The agents that the settings describe.
pub struct Agents {
    chain: AgentChain,
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
    pub fn start(settings: &Settings) -> anyhow::Result<Self> {
        let timer = Arc::default();
        let (chain, maintenance) = connect(settings, Arc::clone(&timer))?;
        Ok(Self {
            chain,
            timer,
            _maintenance: maintenance,
        })
    }

    /// Returns the agents in the order in which they are asked.
    pub fn chain(&self) -> &AgentChain {
        &self.chain
    }

    /// Waits 10 to 20 ms. A caller that still waits for an agent then checks whether the client is
    /// still connected.
    pub async fn wait_before_client_check(&self) {
        self.timer.wait().await;
    }
}

/// Creates a pool whose maintenance runs on its own thread, because Pingora's workers start later
/// and end earlier.
fn connect(
    settings: &Settings,
    timer: Arc<CoarseTimer>,
) -> anyhow::Result<(AgentChain, MaintenanceThread)> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let (stop, stopped) = oneshot::channel();
    let (ready, is_ready) = std::sync::mpsc::channel();
    let settings = settings.clone();
    thread::Builder::new()
        .name("agents".to_owned())
        .spawn(move || {
            runtime.block_on(async {
                // Fails only if the receiver below is gone.
                let _ = ready.send(settings.connect().await);
                tokio::select! {
                    // Resolves with an error when the sender is dropped; nothing is ever sent.
                    _ = stopped => {}
                    () = timer.run() => {}
                }
            });
        })?;
    let chain = is_ready
        .recv()
        .context("the thread that maintains the pool of agents ended")??;
    Ok((chain, MaintenanceThread { _stop: stop }))
}
