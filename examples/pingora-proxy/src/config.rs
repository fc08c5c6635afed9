//! The configuration file.

use anyhow::{Context, ensure};
use serde::Deserialize;
use std::collections::HashSet;
use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

/// The content of the configuration file; see `proxy.toml`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Address for clients, which use HTTP/1.1 or HTTP/2 with prior knowledge, without TLS.
    pub listen: SocketAddr,
    /// Address of the server that requests are forwarded to, with HTTP/1.1 without TLS.
    pub upstream: SocketAddr,
    /// Number of threads that serve requests. Default: 1.
    #[serde(default = "one")]
    pub threads: usize,
    /// `true` if the threads share one runtime and its tasks, `false` if Pingora runs one runtime
    /// on each. Default: `true`.
    #[serde(default = "yes")]
    pub work_stealing: bool,
    /// The runtime that serves the connections to agents.
    #[serde(default)]
    pub connections: Connections,
    /// Number of connections to each agent, per runtime with [`Connections::PerRuntime`]. With a
    /// single connection the most requests share a system call. Default: 1.
    #[serde(default = "one")]
    pub connections_per_agent: usize,
    /// Time limit for each answer of an agent, in milliseconds. Default: 1000.
    #[serde(default = "one_second")]
    pub agent_timeout_ms: u64,
    /// Number of bytes of a body that are held back at most while agents ask for more of it.
    /// Default: 1 MiB.
    #[serde(default = "one_mebibyte")]
    pub max_held_body: usize,
    /// The agents, in the order in which they are asked.
    #[serde(default)]
    pub agents: Vec<Agent>,
}

/// The runtime that serves the connections to agents.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Connections {
    /// The runtime of the worker that asks, so that no other thread is involved in an answer.
    /// Workers that share one runtime share its connections.
    #[default]
    PerRuntime,
    /// A separate runtime for the connections of all workers.
    Shared,
}

/// One agent.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Agent {
    /// Name of the agent in logs.
    pub name: String,
    /// Path of its socket.
    pub endpoint: String,
    /// Handling of requests while the agent is unavailable.
    #[serde(default)]
    pub failure_mode: FailureMode,
    /// Set to [`Role::Changes`] if the agent changes requests and responses beyond their headers.
    #[serde(default)]
    pub role: Role,
}

/// Handling of requests while an agent is unavailable.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum FailureMode {
    /// Answers them with 503 or 504.
    #[default]
    Closed,
    /// Forwards them without asking the agent.
    Open,
}

/// The permitted effects of an agent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Role {
    /// Allows or denies, and may change headers. Consecutive agents with this role are asked
    /// concurrently, so they do not see each other's changes. Bodies keep their length: changing
    /// one is an error.
    #[default]
    Decides,
    /// May change everything. Is asked alone; later agents see its changes.
    Changes,
}

impl Config {
    /// Reads a configuration file.
    ///
    /// # Errors
    ///
    /// Returns an error if the file cannot be read or is invalid.
    pub fn load(path: &Path) -> anyhow::Result<Self> {
        let text = std::fs::read_to_string(path).with_context(|| path.display().to_string())?;
        Self::parse(&text).with_context(|| path.display().to_string())
    }

    /// Parses the text of a configuration file.
    ///
    /// # Errors
    ///
    /// Returns an error if the text is invalid.
    pub fn parse(text: &str) -> anyhow::Result<Self> {
        let config: Self = toml::from_str(text)?;
        let mut names = HashSet::new();
        for agent in &config.agents {
            ensure!(
                names.insert(&agent.name),
                "two agents are named '{}'",
                agent.name
            );
        }
        ensure!(config.threads > 0, "threads must be at least 1");
        Ok(config)
    }

    /// Returns the groups of agents that are asked concurrently, as ranges of [`Config::agents`].
    pub fn stages(&self) -> Vec<std::ops::Range<usize>> {
        let mut stages: Vec<std::ops::Range<usize>> = Vec::new();
        let mut is_open = false;
        for (at, agent) in self.agents.iter().enumerate() {
            match stages.last_mut() {
                Some(stage) if is_open && agent.role == Role::Decides => stage.end = at + 1,
                _ => stages.push(at..at + 1),
            }
            is_open = agent.role == Role::Decides;
        }
        stages
    }

    /// Returns the time limit for each answer of an agent.
    pub fn agent_timeout(&self) -> Duration {
        Duration::from_millis(self.agent_timeout_ms)
    }
}

fn one() -> usize {
    1
}

fn yes() -> bool {
    true
}

fn one_second() -> u64 {
    1_000
}

fn one_mebibyte() -> usize {
    1 << 20
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINIMAL: &str = "listen = '127.0.0.1:1'\nupstream = '127.0.0.1:2'\n";

    fn agent(name: &str, more: &str) -> String {
        format!("[[agents]]\nname = '{name}'\nendpoint = '/{name}'\n{more}\n")
    }

    #[test]
    fn consecutive_deciding_agents_form_one_stage() {
        let roles = [
            "",
            "",
            "role = 'changes'",
            "",
            "",
            "role = 'changes'",
            "role = 'changes'",
        ];
        let agents: String = (0..)
            .zip(roles)
            .map(|(n, role)| agent(&format!("a{n}"), role))
            .collect();
        let config = Config::parse(&(MINIMAL.to_owned() + &agents)).unwrap();
        assert_eq!(config.stages(), [0..2, 2..3, 3..5, 5..6, 6..7]);
    }

    #[test]
    fn errors_name_the_cause() {
        let reason = |more: &str| {
            let parsed = Config::parse(&(MINIMAL.to_owned() + more));
            format!("{:#}", parsed.unwrap_err())
        };
        assert!(reason("colour = 'red'").contains("unknown field `colour`"));
        assert!(reason("connections = 'somewhere'").contains("somewhere"));
        let twice = agent("a", "") + &agent("a", "");
        assert!(reason(&twice).contains("two agents are named 'a'"));
        assert!(reason(&agent("a", "failure_mode = 'maybe'")).contains("maybe"));
    }

    #[test]
    fn example_configuration_is_valid() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("proxy.toml");
        assert_eq!(Config::load(&path).unwrap().agents.len(), 2);
    }
}
