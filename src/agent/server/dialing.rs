//! Settings for the proxies that a server dials.

use super::super::dial::Token;
use super::AgentServerBuilder;
use crate::configuration::setters;
use crate::handler::AgentHandler;
use std::path::PathBuf;
use std::time::Duration;

/// Proxies that the agent connects to, for agents behind NAT and those that are started and stopped
/// independently of the proxy. Lost connections are replaced.
impl<H: AgentHandler> AgentServerBuilder<H> {
    setters! {
        /// Connects to a proxy, which has to listen for agents
        /// ([`ReverseConnectionListener`](crate::ReverseConnectionListener)), and replaces lost
        /// connections. May be called several times.
        ///
        /// The endpoint is the path of a Unix socket (`/path` or `unix:/path`), `tcp://host:port`,
        /// or with the feature `tls` `tls://host:port`. Host names are resolved on every attempt to
        /// connect.
        dial(self, endpoint: impl Into<String>) => self.dial.proxies.push(endpoint.into());

        /// Sets the TLS settings for proxies that are dialed at `tls://host:port`.
        #[cfg(feature = "tls")]
        dial_tls(self, config: crate::TlsConfig) => self.dial.tls = config;

        /// Sets the number of connections that are kept open to each proxy, 4 by default.
        dial_connections(self, connections: usize) => self.dial.connections = connections.max(1);

        /// Sets the id to register, by default the one in the handler's capabilities.
        agent_id(self, agent_id: impl Into<String>) => self.dial.agent_id = Some(agent_id.into());

        /// Sets the token to register with.
        token(self, token: impl Into<String>) => self.dial.token = Token::Fixed(token.into());

        /// Sets the file that holds the token. The file is read for each registration, so a new
        /// token takes effect without a restart. White space around the token is ignored.
        token_file(self, path: impl Into<PathBuf>) =>
            self.dial.token = Token::from_file(path.into());

        /// Sets the time limit for connecting and registering, 5 s by default.
        connect_timeout(self, timeout: Duration) => self.dial.connect_timeout = timeout;

        /// Sets the delay before reconnecting, 500 ms by default.
        ///
        /// The delay is random: up to the whole interval after a connection was lost, and between
        /// half and all of it after a failed attempt. It doubles with each further failure, up to
        /// 1 s while the proxy is absent, so that agents are back soon after it is, and up to 30 s
        /// while it rejects the agent.
        reconnect_interval(self, interval: Duration) => self.dial.reconnect_interval = interval;

        /// Sets after how long a silence the proxy is pinged, and how long it may take to answer
        /// before the connection counts as lost; 10 s and 5 s by default. Proxies without
        /// tollgate's extension are not pinged, because those on `zentinel-agent-protocol` do not
        /// answer.
        keepalive(self, interval: Duration, timeout: Duration) =>
            (self.dial.keepalive_interval, self.dial.keepalive_timeout) = (interval, timeout);
    }
}
