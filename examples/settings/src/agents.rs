//! The chain of agents that settings describe.

use crate::settings::{
    AgentSettings, BodyMode, Codings, Connections, FailureMode, Role, Settings, SharedMemory,
    WebSockets,
};
use std::time::Duration;
use tollgate::proxy::{
    self, AgentChain, AgentRole, ChainAgent, ChainConfig, CodingMode, PathForm, WebSocketMode,
};
use tollgate::{AddError, AgentConfig, AgentPool, AgentPoolConfig, Placement};

impl Settings {
    /// Creates a pool whose maintenance runs on the current runtime, and the chain of its agents.
    /// They are connected in the background.
    ///
    /// # Errors
    ///
    /// Returns an error if a name or an endpoint is invalid. An unreachable agent is not an error.
    pub async fn connect(&self) -> Result<AgentChain, AddError> {
        let pool = AgentPool::with_config(self.pool_config());
        let mut chain = AgentChain::with_config(&pool, self.chain_config());
        for settings in &self.agents {
            let agent = AgentConfig::new(&*settings.name, &*settings.endpoint)
                .failure_mode(settings.failure_mode.into());
            chain = chain.agent(settings.chain_agent(pool.add(agent).await?));
        }
        Ok(chain)
    }

    /// Returns the configuration of the pool that [`connect`](Self::connect) creates.
    pub fn pool_config(&self) -> AgentPoolConfig {
        AgentPoolConfig::default()
            .connections_per_agent(self.connections_per_agent)
            .placement(match self.connections {
                Connections::Shared => Placement::Shared,
                Connections::PerRuntime => Placement::PerRuntime,
            })
            .shared_memory(match self.shared_memory {
                SharedMemory::Off => tollgate::SharedMemory::Off,
                SharedMemory::Adaptive => tollgate::SharedMemory::Adaptive,
                SharedMemory::BusyPoll => tollgate::SharedMemory::BusyPoll,
            })
            .request_timeout(self.agent_timeout())
            .queue_timeout(self.agent_timeout())
            .skip_unsubscribed_events(true)
    }

    /// Returns the configuration of the chain that [`connect`](Self::connect) creates.
    pub fn chain_config(&self) -> ChainConfig {
        ChainConfig::default()
            .trusted_hops(self.trusted_hops)
            .path_form(match self.normalize_paths {
                true => PathForm::Normal,
                false => PathForm::AsReceived,
            })
            .websockets(match self.websockets {
                WebSockets::Inspect => WebSocketMode::Inspect,
                WebSockets::Pass => WebSocketMode::Pass,
                WebSockets::Refuse => WebSocketMode::Refuse,
            })
            .request_body_timeout(Duration::from_millis(self.request_body_timeout_ms))
            .max_held_body(self.max_held_body)
            .max_decoded_body(self.max_decoded_body)
            .max_decoding_ratio(self.max_decoding_ratio)
    }
}

impl AgentSettings {
    fn chain_agent(&self, agent: tollgate::Agent) -> ChainAgent {
        ChainAgent::new(agent)
            .role(match self.role {
                Role::Decides => AgentRole::Decides,
                Role::Changes => AgentRole::Changes,
            })
            .request_body(self.body_mode(self.request_body))
            .response_body(self.body_mode(self.response_body))
            .codings(match self.codings {
                Codings::Decode => CodingMode::Decode,
                Codings::Refuse => CodingMode::Refuse,
                Codings::Pass => CodingMode::Pass,
            })
    }

    fn body_mode(&self, mode: BodyMode) -> proxy::BodyMode {
        match mode {
            BodyMode::Stream => proxy::BodyMode::Stream,
            BodyMode::Hybrid => proxy::BodyMode::Hybrid(self.hybrid_bytes()),
            BodyMode::Buffer => proxy::BodyMode::Buffer,
            BodyMode::InspectFirst => proxy::BodyMode::InspectFirst,
        }
    }
}

impl From<FailureMode> for tollgate::FailureMode {
    fn from(mode: FailureMode) -> Self {
        match mode {
            FailureMode::Closed => Self::Closed,
            FailureMode::Open => Self::Open,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tollgate::proxy::BodyMode as ChainMode;

    #[tokio::test]
    async fn chain_has_what_the_settings_say() {
        let text = "
            listen = '127.0.0.1:1'
            upstream = '127.0.0.1:2'
            trusted_hops = 2
            normalize_paths = false
            websockets = 'pass'
            max_decoded_body = 5000
            max_decoding_ratio = 7
            [[agents]]
            name = 'waf'
            endpoint = '/waf'
            request_body = 'inspect-first'
            response_body = 'hybrid'
            hybrid_size = 100
            codings = 'refuse'
            [[agents]]
            name = 'tagger'
            endpoint = '/tagger'
            role = 'changes'
            request_body = 'buffer'
        ";
        let settings = Settings::parse(text).unwrap();
        let config = settings.chain_config();
        assert_eq!(
            (config.trusted_hops, config.path_form),
            (2, PathForm::AsReceived)
        );
        assert_eq!(config.websockets, WebSocketMode::Pass);
        assert_eq!(
            (config.max_decoded_body, config.max_decoding_ratio),
            (5000, 7)
        );
        assert!(!settings.connect().await.unwrap().is_empty());
        let pool = AgentPool::new();
        let mut agents = Vec::new();
        for agent in &settings.agents {
            let config = AgentConfig::new(&*agent.name, &*agent.endpoint);
            agents.push(agent.chain_agent(pool.add(config).await.unwrap()));
        }
        let [waf, tagger] = &agents[..] else {
            panic!("two agents are expected");
        };
        assert_eq!(
            (waf.role, waf.request_body, waf.response_body, waf.codings),
            (
                AgentRole::Decides,
                ChainMode::InspectFirst,
                ChainMode::Hybrid(100),
                CodingMode::Refuse
            )
        );
        assert_eq!(
            (
                tagger.role,
                tagger.request_body,
                tagger.response_body,
                tagger.codings
            ),
            (
                AgentRole::Changes,
                ChainMode::Buffer,
                ChainMode::Stream,
                CodingMode::Decode
            )
        );
    }
}
