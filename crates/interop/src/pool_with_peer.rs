use crate::TIMEOUT;
use crate::pairing::Pairing;
use crate::peer_agent::{Logged, PeerAgent};
use serde::Serialize;
use serde_json::json;
use tollgate::{Agent, AgentConfig, AgentPool, AgentPoolConfig};

/// Name of the agent in the pool.
pub const AGENT: &str = "peer";

/// Tollgate's pool with a peer's agent in it.
#[derive(Debug)]
pub struct PoolWithPeer {
    /// The pool, which has one agent, [`AGENT`].
    pub pool: AgentPool,
    /// Handle of the agent.
    pub agent: Agent,
    /// The peer's agent itself.
    pub peer: PeerAgent,
}

/// Returns a configuration with one connection and generous timeouts.
pub fn pool_config(pairing: &Pairing) -> AgentPoolConfig {
    AgentPoolConfig::default()
        .connections_per_agent(1)
        .connect_timeout(TIMEOUT)
        .request_timeout(TIMEOUT)
        .encodings(pairing.ours.to_vec())
}

impl PoolWithPeer {
    /// Connects the two over one connection.
    pub async fn connect(pairing: &Pairing) -> Self {
        Self::configured(pairing, pool_config(pairing)).await
    }

    /// Connects the two with this configuration.
    ///
    /// # Panics
    ///
    /// If the two do not negotiate the encoding of the pairing.
    pub async fn configured(pairing: &Pairing, config: AgentPoolConfig) -> Self {
        let mut peer = PeerAgent::start(&pairing.peer()).await;
        let connections = config.connections_per_agent;
        let pool = AgentPool::with_config(config);
        let endpoint = format!("unix:{}", peer.socket().display());
        let agent = pool
            .add(AgentConfig::new(AGENT, endpoint).require_connection())
            .await
            .expect("the pool connects");
        assert_eq!(agent.encoding(), Some(pairing.agreed), "{pairing}");
        for _ in 0..connections {
            let handshake = peer.next_event().await;
            assert_eq!(handshake.event, "handshake");
            assert_eq!(handshake.value["supported_versions"], json!([2]));
        }
        Self { pool, agent, peer }
    }

    /// Checks the next event that the agent reports.
    ///
    /// # Panics
    ///
    /// If it is a different event, or none is reported in time.
    pub async fn expect_logged(&mut self, event: &str, value: &impl Serialize) {
        let expected = Logged {
            event: event.to_owned(),
            value: serde_json::to_value(value).expect("an event is JSON"),
        };
        assert_eq!(self.peer.next_event().await, expected);
    }

    /// Disconnects the two and checks that the agent received no other event.
    ///
    /// # Panics
    ///
    /// If it did.
    pub async fn end(self) {
        self.agent.remove().expect("the agent is in the pool");
        let mut left = self.peer.kill().await;
        // The agent may or may not have noticed the end of the connections.
        left.retain(|logged| logged.event != "stream_closed");
        assert_eq!(left, []);
    }
}
