use crate::PATIENCE;
use crate::pairing::Pairing;
use crate::peer_agent::{Logged, PeerAgent};
use serde::Serialize;
use serde_json::json;
use tollgate::{AgentPool, AgentPoolConfig};

/// The name of the agent inside the pool.
pub const AGENT: &str = "peer";

/// Tollgate's pool with a peer's agent in it.
#[derive(Debug)]
pub struct Meeting {
    /// The pool, which has one agent, [`AGENT`].
    pub pool: AgentPool,
    /// The agent.
    pub agent: PeerAgent,
}

/// One connection, and more time than any answer needs.
pub fn pool_config(pairing: &Pairing) -> AgentPoolConfig {
    AgentPoolConfig {
        connections_per_agent: 1,
        connect_timeout: PATIENCE,
        request_timeout: PATIENCE,
        encodings: pairing.ours.to_vec(),
        ..AgentPoolConfig::default()
    }
}

impl Meeting {
    /// A meeting over one connection.
    pub async fn of(pairing: &Pairing) -> Self {
        Self::configured(pairing, pool_config(pairing)).await
    }

    /// A meeting with a configuration of its own.
    ///
    /// # Panics
    ///
    /// If the two do not agree on the encoding of the pairing.
    pub async fn configured(pairing: &Pairing, config: AgentPoolConfig) -> Self {
        let mut agent = PeerAgent::start(&pairing.peer()).await;
        let connections = config.connections_per_agent;
        let pool = AgentPool::with_config(config);
        let endpoint = format!("unix:{}", agent.socket().display());
        pool.connect_agent(AGENT, endpoint)
            .await
            .expect("the pool connects");
        assert_eq!(
            pool.agent_encoding(AGENT),
            Some(pairing.agreed),
            "{pairing}"
        );
        for _ in 0..connections {
            let handshake = agent.next_event().await;
            assert_eq!(handshake.event, "handshake");
            assert_eq!(handshake.value["supported_versions"], json!([2]));
        }
        Self { pool, agent }
    }

    /// Checks that the next event the agent was given is this one.
    ///
    /// # Panics
    ///
    /// If it was another, or none.
    pub async fn expect_logged(&mut self, event: &str, value: &impl Serialize) {
        let expected = Logged {
            event: event.to_owned(),
            value: serde_json::to_value(value).expect("an event is JSON"),
        };
        assert_eq!(self.agent.next_event().await, expected);
    }

    /// Ends the meeting and checks that the agent was given nothing more.
    ///
    /// # Panics
    ///
    /// If it was.
    pub async fn end(self) {
        self.pool
            .remove_agent(AGENT)
            .await
            .expect("the agent is known");
        let mut left = self.agent.kill().await;
        // How far the agent got in noticing the end of the connections does not matter.
        left.retain(|logged| logged.event != "stream_closed");
        assert_eq!(left, []);
    }
}
