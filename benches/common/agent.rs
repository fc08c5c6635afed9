use std::path::PathBuf;
use std::sync::mpsc;
use std::thread;
use tempfile::TempDir;
use tokio::runtime::Builder;
use tollgate::bench::{IdleConnection, InMemory};
use tollgate::{
    Agent, AgentCapabilities, AgentConfig, AgentHandler, AgentPool, AgentPoolConfig, AgentServer,
    Encoding, EventType,
};

/// Agent that allows everything without delay.
pub struct Allowing;

impl AgentHandler for Allowing {
    fn capabilities(&self) -> AgentCapabilities {
        AgentCapabilities {
            supported_events: EventType::ALL.to_vec(),
            ..AgentCapabilities::new("allowing", "Allows everything", "1.0.0")
        }
    }
}

/// Returns a connection that nothing else uses. Its pool is never dropped.
pub fn idle_connection() -> IdleConnection {
    let memory = InMemory::new(1, AgentPoolConfig::default(), Allowing);
    let connection = memory.idle_connection();
    std::mem::forget(memory);
    connection
}

/// Agent that allows everything, on a socket. A separate thread serves it until the process ends.
pub struct SocketAgent {
    path: PathBuf,
    _directory: TempDir,
}

impl SocketAgent {
    pub fn start() -> Self {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let path = directory.path().join("agent.sock");
        let (ready, listens) = mpsc::channel();
        let server = AgentServer::builder(Allowing).listen(path.display().to_string());
        thread::spawn(move || {
            let runtime = Builder::new_current_thread().enable_all().build();
            runtime.expect("a runtime").block_on(async {
                let bound = server.bind().await.expect("a free socket");
                ready.send(()).expect("the benchmark waits");
                bound.serve().await
            })
        });
        listens.recv().expect("the agent listens");
        Self {
            path,
            _directory: directory,
        }
    }

    /// Returns a pool with one connection to the agent, and the agent's handle.
    pub async fn pool(&self, encoding: Encoding) -> (AgentPool, Agent) {
        let pool = AgentPool::with_config(
            AgentPoolConfig::default()
                .connections_per_agent(1)
                .encodings(vec![encoding]),
        );
        let endpoint = self.path.display().to_string();
        let agent = AgentConfig::new("agent", endpoint).require_connection();
        let agent = pool.add(agent).await.expect("a connection");
        (pool, agent)
    }
}
