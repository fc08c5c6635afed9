use super::tokens::MAX_TOKEN_LEN;
use std::collections::{HashMap, HashSet};
use std::fmt;
use std::time::Duration;

/// Who may connect to a [`ReverseConnectionListener`](super::ReverseConnectionListener), and how many.
///
/// The default lets processes of the proxy's own user in by a Unix socket, and does not listen on anything else
/// before it is said how agents authenticate.
#[derive(Clone)]
pub struct ReverseConnectionConfig {
    /// Connections that the system keeps until they are accepted.
    pub backlog: u32,
    /// Time for the whole registration, the TLS handshake included.
    pub handshake_timeout: Duration,
    /// Connections of one agent, through this listener.
    pub max_connections_per_agent: usize,
    /// Connections of all agents, through this listener; as many agents that come and go are remembered.
    pub max_connections: usize,
    /// Connections that have not registered yet; the oldest gives way to a new one.
    pub max_unregistered: usize,
    /// Connections per second that one peer may open: a user on a Unix socket, an IPv4 address, an IPv6 network of
    /// 64 bits. More are closed without a word.
    pub max_registrations_per_second: u32,
    /// Ids of the agents that may register; `*` stands for any text, also for none. Empty: all ids.
    pub allowed_agents: HashSet<String>,
    /// Whether agents must show who they are: by a token if there are tokens, otherwise by their user on a Unix
    /// socket or by their certificate over TLS. A listener that could not tell does not start.
    pub require_auth: bool,
    /// Tokens for agents of every id that is not among `agent_tokens`. Several are valid at once, so that they can be
    /// changed without an interruption.
    pub auth_tokens: HashSet<String>,
    /// Tokens that are valid for some ids only, by pattern, as in `allowed_agents`. An id that a pattern fits needs
    /// one of its tokens, even if `require_auth` is off. Any number of machines may then serve an agent together;
    /// without such a token, or a certificate, an id belongs to the peer that registered it first.
    pub agent_tokens: HashMap<String, HashSet<String>>,
    /// Mode of the Unix socket's file.
    pub socket_mode: u32,
    /// Users that may connect to the Unix socket. Where this and `allowed_gids` are empty: the proxy's own user, and
    /// root.
    pub allowed_uids: HashSet<u32>,
    /// Groups whose processes may connect to the Unix socket.
    pub allowed_gids: HashSet<u32>,
    /// How long an agent is known after its last connection has ended.
    pub grace_time: Duration,
}

impl Default for ReverseConnectionConfig {
    /// The published defaults where there are such, but that authentication is required.
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

    /// Why no listener may start with this.
    pub(super) fn fault(&self, transport: Authentication) -> Option<&'static str> {
        let tokens = || {
            let bound = self.agent_tokens.values().flatten();
            self.auth_tokens.iter().chain(bound)
        };
        if tokens().any(String::is_empty) {
            return Some("an empty token would let everybody in");
        }
        if tokens().any(|token| token.len() > MAX_TOKEN_LEN) {
            return Some("a token is longer than 512 bytes");
        }
        if self.agent_tokens.values().any(HashSet::is_empty) {
            return Some("a pattern in agent_tokens has no token");
        }
        if self.require_auth && !self.has_tokens() && transport == Authentication::None {
            return Some(
                "authentication is required, but there are no tokens and the transport cannot tell who connects",
            );
        }
        None
    }
}

/// What a transport knows of whoever connects.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Authentication {
    /// Nothing that could not be made up.
    None,
    /// A user, or the name in a certificate.
    Identity,
}

/// Without the tokens.
impl fmt::Debug for ReverseConnectionConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ReverseConnectionConfig")
            .field("allowed_agents", &self.allowed_agents)
            .field("require_auth", &self.require_auth)
            .field("auth_tokens", &self.auth_tokens.len())
            .field("agent_tokens", &self.agent_tokens.keys())
            .field("max_connections", &self.max_connections)
            .field("max_connections_per_agent", &self.max_connections_per_agent)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with_tokens(tokens: &[&str]) -> ReverseConnectionConfig {
        ReverseConnectionConfig {
            auth_tokens: tokens.iter().map(|token| (*token).to_owned()).collect(),
            ..ReverseConnectionConfig::default()
        }
    }

    #[test]
    fn something_has_to_authenticate() {
        let bare = ReverseConnectionConfig::default();
        assert_eq!(bare.fault(Authentication::Identity), None);
        assert!(bare.fault(Authentication::None).is_some());
        let open = ReverseConnectionConfig {
            require_auth: false,
            ..bare
        };
        assert_eq!(open.fault(Authentication::None), None);
        assert_eq!(with_tokens(&["t"]).fault(Authentication::None), None);
    }

    #[test]
    fn tokens_that_protect_nothing_are_refused() {
        let long = "x".repeat(MAX_TOKEN_LEN + 1);
        for tokens in [&["t", ""][..], &[&long]] {
            assert!(
                with_tokens(tokens)
                    .fault(Authentication::Identity)
                    .is_some()
            );
        }
        let mut config = with_tokens(&["t"]);
        config.agent_tokens.insert("a".to_owned(), HashSet::new());
        assert!(config.fault(Authentication::Identity).is_some());
    }

    #[test]
    fn tokens_are_not_shown() {
        let mut config = with_tokens(&["s3cret"]);
        let bound = HashSet::from(["hidden".to_owned()]);
        config.agent_tokens.insert("a".to_owned(), bound);
        let shown = format!("{config:?}");
        assert!(
            !shown.contains("s3cret") && !shown.contains("hidden"),
            "{shown}"
        );
    }
}
