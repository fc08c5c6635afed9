//! Settings for the proxies that a server dials.

use super::super::dial::Token;
use super::super::handler::AgentHandler;
use super::AgentServerBuilder;
use std::path::PathBuf;
use std::time::Duration;

/// Proxies that the agent connects to, for agents behind NAT and those that are started and stopped
/// independently of the proxy. Lost connections are replaced.
impl<H: AgentHandler> AgentServerBuilder<H> {
    /// Connects to a proxy, which has to listen for agents
    /// ([`ReverseConnectionListener`](crate::ReverseConnectionListener)), and replaces lost
    /// connections. May be called several times.
    ///
    /// The endpoint is the path of a Unix socket (`/path` or `unix:/path`), `tcp://host:port`, or
    /// with the feature `tls` `tls://host:port`. Host names are resolved on every attempt to
    /// connect.
    #[must_use]
    pub fn dial(mut self, endpoint: impl Into<String>) -> Self {
        self.dial.proxies.push(endpoint.into());
        self
    }

    /// Sets the TLS settings for proxies that are dialed at `tls://host:port`.
    #[cfg(feature = "tls")]
    #[must_use]
    pub fn dial_tls(mut self, config: crate::TlsConfig) -> Self {
        self.dial.tls = config;
        self
    }

    /// Sets the number of connections that are kept open to each proxy, 4 by default.
    #[must_use]
    pub fn dial_connections(mut self, connections: usize) -> Self {
        self.dial.connections = connections.max(1);
        self
    }

    /// Sets the id to register, by default the one in the handler's capabilities.
    #[must_use]
    pub fn agent_id(mut self, agent_id: impl Into<String>) -> Self {
        self.dial.agent_id = Some(agent_id.into());
        self
    }

    /// Sets the token to register with.
    #[must_use]
    pub fn token(mut self, token: impl Into<String>) -> Self {
        self.dial.token = Token::Fixed(token.into());
        self
    }

    /// Sets the file that holds the token. The file is read for each registration, so a new token
    /// takes effect without a restart. White space around the token is ignored.
    #[must_use]
    pub fn token_file(mut self, path: impl Into<PathBuf>) -> Self {
        self.dial.token = Token::from_file(path.into());
        self
    }

    /// Sets the time limit for connecting and registering, 5 s by default.
    #[must_use]
    pub fn connect_timeout(mut self, timeout: Duration) -> Self {
        self.dial.connect_timeout = timeout;
        self
    }

    /// Sets the delay before reconnecting, 500 ms by default.
    ///
    /// The delay is random: up to the whole interval after a connection was lost, and between half
    /// and all of it after a failed attempt. It doubles with each further failure, up to 1 s while
    /// the proxy is absent, so that agents are back soon after it is, and up to 30 s while it
    /// rejects the agent.
    #[must_use]
    pub fn reconnect_interval(mut self, interval: Duration) -> Self {
        self.dial.reconnect_interval = interval;
        self
    }

    /// Sets after how long a silence the proxy is pinged, and how long it may take to answer before
    /// the connection counts as lost; 10 s and 5 s by default. Proxies without tollgate's extension
    /// are not pinged, because those on `zentinel-agent-protocol` do not answer.
    #[must_use]
    pub fn keepalive(mut self, interval: Duration, timeout: Duration) -> Self {
        self.dial.keepalive_interval = interval;
        self.dial.keepalive_timeout = timeout;
        self
    }
}
