//! Settings of the listener for reverse connections.

use super::tokens::MAX_TOKEN_LEN;
use crate::configuration::configuration;
use crate::debug_fields::debug_fields;
use std::collections::{HashMap, HashSet};
use std::time::Duration;

configuration! {
    /// Settings of a [`ReverseConnectionListener`](super::ReverseConnectionListener): which agents
    /// may connect, and how many.
    ///
    /// By default, processes of the proxy's own user and of root may connect to a Unix socket.
    /// Other listeners do not start until authentication is configured.
    #[derive(Clone)]
    #[non_exhaustive]
    pub struct ReverseConnectionConfig {
        /// Connections that the kernel keeps until they are accepted.
        pub backlog: u32,
        /// Time limit for the whole registration, including the TLS handshake.
        pub handshake_timeout: Duration,
        /// Maximum number of connections of one agent through this listener.
        pub max_connections_per_agent: usize,
        /// Maximum number of connections of all agents through this listener. Also the number of
        /// agents without an endpoint that the pool remembers.
        pub max_connections: usize,
        /// Maximum number of connections that have not registered yet. A new one evicts the oldest.
        pub max_unregistered: usize,
        /// Connections per second that one peer may open. A peer is a user on a Unix socket, an
        /// IPv4 address, or an IPv6 network of 64 bits. Excess connections are closed immediately.
        pub max_registrations_per_second: u32,
        /// Ids of the agents that may register. `*` matches any text, including none. Empty: all
        /// ids.
        pub allowed_agents: HashSet<String>,
        /// `true` if agents must authenticate: with a token if there are tokens, otherwise by their
        /// user on a Unix socket or by their certificate over TLS. A listener that has no such
        /// means does not start.
        pub require_auth: bool,
        /// Tokens for all ids that match no pattern in `agent_tokens`. Several can be valid at
        /// once, so that they can be replaced without an interruption.
        pub auth_tokens: HashSet<String>,
        /// Tokens that are valid for some ids only, by pattern, as in `allowed_agents`. An id that
        /// matches a pattern needs one of its tokens, even if `require_auth` is off. Any number of
        /// machines can then serve the agent together; without such a token or a certificate, an id
        /// belongs to the peer that registered it first.
        pub agent_tokens: HashMap<String, HashSet<String>>,
        /// Mode of the socket file.
        pub socket_mode: u32,
        /// Users that may connect to the Unix socket. If both this and `allowed_gids` are empty,
        /// these are the proxy's own user and root.
        pub allowed_uids: HashSet<u32>,
        /// Groups whose processes may connect to the Unix socket.
        pub allowed_gids: HashSet<u32>,
        /// Time that an agent is kept after its last connection has ended.
        pub grace_time: Duration,
    }
}

impl Default for ReverseConnectionConfig {
    /// The defaults of `zentinel-agent-protocol` where it has them, except that authentication is
    /// required.
    fn default() -> Self {
        Self {
            backlog: 128,
            handshake_timeout: Duration::from_secs(10),
            max_connections_per_agent: 4,
            max_connections: 1024,
            max_unregistered: 256,
            max_registrations_per_second: 200,
            allowed_agents: HashSet::new(),
            require_auth: true,
            auth_tokens: HashSet::new(),
            agent_tokens: HashMap::new(),
            socket_mode: 0o600,
            allowed_uids: HashSet::new(),
            allowed_gids: HashSet::new(),
            grace_time: Duration::from_secs(60),
        }
    }
}

impl ReverseConnectionConfig {
    pub(super) fn has_tokens(&self) -> bool {
        !self.auth_tokens.is_empty() || !self.agent_tokens.is_empty()
    }

    /// Returns why no listener may start with these settings, if that is so.
    pub(super) fn problem(&self, transport: Authentication) -> Option<&'static str> {
        let tokens = || {
            let bound = self.agent_tokens.values().flatten();
            self.auth_tokens.iter().chain(bound)
        };
        if tokens().any(String::is_empty) {
            return Some("a token is empty, so that any agent could register");
        }
        if tokens().any(|token| token.len() > MAX_TOKEN_LEN) {
            return Some("a token is longer than the limit of 512 bytes");
        }
        if self.agent_tokens.values().any(HashSet::is_empty) {
            return Some("a pattern in agent_tokens has no token");
        }
        if self.require_auth && !self.has_tokens() && transport == Authentication::None {
            return Some(
                "authentication is required, but there are no tokens and the transport identifies no peers",
            );
        }
        None
    }
}

/// Knowledge that a transport has about a peer without a token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Authentication {
    /// Nothing that a peer could not forge.
    None,
    /// A user, or the names in a certificate.
    Identity,
}

// Leaves out the tokens.
debug_fields!(ReverseConnectionConfig, |self|
    allowed_agents: self.allowed_agents, require_auth: self.require_auth,
    auth_tokens: self.auth_tokens.len(), agent_tokens: self.agent_tokens.keys(),
    max_connections: self.max_connections,
    max_connections_per_agent: self.max_connections_per_agent,
);
