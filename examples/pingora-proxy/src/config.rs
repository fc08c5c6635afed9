//! The configuration file.

use anyhow::{Context, ensure};
use serde::Deserialize;
use std::collections::HashSet;
use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

/// What the file says; see `proxy.toml`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Where clients connect, HTTP/1.1 or HTTP/2 without TLS.
    pub listen: SocketAddr,
    /// The server that requests are passed on to, HTTP/1.1 without TLS.
    pub upstream: SocketAddr,
    /// Threads that serve requests.
    #[serde(default = "one")]
    pub threads: usize,
    /// Whether these threads share their tasks. Where they do not, Pingora runs one runtime on each.
    #[serde(default = "yes")]
    pub work_stealing: bool,
    /// Which runtime serves the connections to agents.
    #[serde(default)]
    pub connections: Connections,
    /// Connections to each agent, for each runtime where they have their own. One has most requests share system calls.
    #[serde(default = "one")]
    pub connections_per_agent: usize,
    /// Time for each answer of an agent, in milliseconds.
    #[serde(default = "one_second")]
    pub agent_timeout_ms: u64,
    /// How much of a body is kept back while agents ask for more of it, in bytes.
    #[serde(default = "one_mebibyte")]
    pub max_held_body: usize,
    /// Whom to ask, in this order.
    #[serde(default)]
    pub agents: Vec<Agent>,
}

/// Which runtime serves the connections to agents.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Connections {
    /// That of the worker that asks, so that an answer needs no other thread. Workers that share their tasks share their
    /// connections as well.
    #[default]
    PerRuntime,
    /// One of their own, for all workers.
    Shared,
}

/// One agent.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Agent {
    /// Its name in logs.
    pub name: String,
    /// The path of its socket.
    pub endpoint: String,
    /// What becomes of a request when the agent is unavailable.
    #[serde(default)]
    pub failure_mode: FailureMode,
    /// Whether the agent changes requests and responses, or only decides.
    #[serde(default)]
    pub role: Role,
}

/// What becomes of a request when its agent is unavailable.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum FailureMode {
    /// It is answered with 503 or 504.
    #[default]
    Closed,
    /// It goes on without the agent.
    Open,
}

/// What an agent does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Role {
    /// It allows or denies, and may change headers. Such agents are asked at once where they stand side by side, so
    /// they do not see each other's changes. Bodies keep their length: changing one is an error.
    #[default]
    Decides,
    /// It may change everything. It is asked alone; agents after it see what it made of the request.
    Changes,
}

impl Config {
    /// Reads a file.
    ///
    /// # Errors
    ///
    /// The file cannot be read, or something in it is wrong.
    pub fn load(path: &Path) -> anyhow::Result<Self> {
        let text = std::fs::read_to_string(path).with_context(|| path.display().to_string())?;
        Self::parse(&text).with_context(|| path.display().to_string())
    }

    /// Reads the text of a file.
    ///
    /// # Errors
    ///
    /// Something in it is wrong.
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
        ensure!(config.threads > 0, "there must be a thread");
        Ok(config)
    }

    /// The agents that are asked at once, group by group, as ranges of [`Config::agents`].
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

    /// Time for each answer of an agent.
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
    fn agents_that_only_decide_are_asked_together() {
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
    fn what_is_wrong_is_said() {
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
    fn the_file_beside_this_package_is_right() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("proxy.toml");
        assert_eq!(Config::load(&path).unwrap().agents.len(), 2);
    }
}
