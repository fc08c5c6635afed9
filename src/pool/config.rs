use crate::wire::Encoding;
use std::time::Duration;

/// Frames that may wait to be sent on one connection, unless configured otherwise; the same for every
/// transport.
pub const CHANNEL_BUFFER_SIZE: usize = 64;

/// Which of an agent's connections the next event takes.
///
/// Connections that are closed, or paused by the agent, are not used; one without a free slot is used only
/// if no other has one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum LoadBalanceStrategy {
    /// Each in turn.
    #[default]
    RoundRobin,
    /// The one with the fewest pending calls.
    LeastConnections,
    /// The one whose agent reported the best health; among equals the one with the fewest pending calls.
    HealthBased,
    /// Any, by chance.
    Random,
}

/// How a pool connects to agents and talks to them.
#[derive(Debug, Clone)]
pub struct AgentPoolConfig {
    /// Connections to each agent.
    pub connections_per_agent: usize,
    /// Which connection an event takes.
    pub load_balance_strategy: LoadBalanceStrategy,
    /// Time for connecting and shaking hands, for each connection.
    pub connect_timeout: Duration,
    /// Time for a call, from the moment it is made to its answer.
    pub request_timeout: Duration,
    /// Time that pending calls get when the pool is shut down.
    pub drain_timeout: Duration,
    /// Calls that may be pending at once on one connection; more wait, in order, until their time is up.
    pub max_concurrent_per_connection: usize,
    /// Frames that may wait to be sent on one connection; more wait, in order, until their time is up.
    pub channel_buffer_size: usize,
    /// Encodings offered to agents, the preferred one first. An agent that has none of them uses JSON, as
    /// the protocol demands.
    pub encodings: Vec<Encoding>,
    /// Whether tollgate's extension of the protocol is offered to agents; those that do not know it take no
    /// notice. See "The extension" in docs/protocol.md.
    pub use_extension: bool,
}

impl Default for AgentPoolConfig {
    /// The published defaults: 4 connections with 100 calls each, 5 s to connect, 30 s for a call and for
    /// draining. MessagePack is preferred, and the extension is used.
    fn default() -> Self {
        Self {
            connections_per_agent: 4,
            load_balance_strategy: LoadBalanceStrategy::RoundRobin,
            connect_timeout: Duration::from_secs(5),
            request_timeout: Duration::from_secs(30),
            drain_timeout: Duration::from_secs(30),
            max_concurrent_per_connection: 100,
            channel_buffer_size: CHANNEL_BUFFER_SIZE,
            encodings: vec![Encoding::MessagePack, Encoding::Json],
            use_extension: true,
        }
    }
}
