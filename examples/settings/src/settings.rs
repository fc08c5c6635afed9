//! The content of a settings file.

use crate::error::SettingsError;
use serde::de::{Error, IgnoredAny};
use serde::{Deserialize, Deserializer};
use std::collections::HashSet;
use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;
use toml::Spanned;

/// The content of a settings file; see `examples/pingora-proxy/proxy.toml`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// Address for clients, which use HTTP/1.1 or HTTP/2 with prior knowledge, without TLS.
    pub listen: SocketAddr,
    /// Address of the server that requests are forwarded to, with HTTP/1.1 without TLS.
    pub upstream: SocketAddr,
    /// Number of threads that serve requests. Default: 1.
    #[serde(default = "one", deserialize_with = "positive")]
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
    #[serde(default = "one", deserialize_with = "positive")]
    pub connections_per_agent: usize,
    /// Use of shared memory with agents on this machine that allow it.
    #[serde(default)]
    pub shared_memory: SharedMemory,
    /// Time limit for each answer of an agent, in milliseconds. Default: 1000.
    #[serde(default = "one_second", deserialize_with = "positive")]
    pub agent_timeout_ms: u64,
    /// Time for which a client may send nothing of a request's body that agents see, in
    /// milliseconds. Default: 60000.
    #[serde(default = "one_minute", deserialize_with = "positive")]
    pub request_body_timeout_ms: u64,
    /// Number of bytes of a body that are held back at most: while agents ask for more of it, or by
    /// the [`BodyMode`]. Default: 1 MiB.
    #[serde(default = "one_mebibyte")]
    pub max_held_body: usize,
    /// Number of bytes that a body may have after it is decoded for agents. Default: 64 MiB.
    #[serde(default = "sixty_four_mebibytes", deserialize_with = "positive")]
    pub max_decoded_body: usize,
    /// Limit of how many times larger a body may become by decoding. Default: 100.
    #[serde(default = "hundred", deserialize_with = "positive")]
    pub max_decoding_ratio: u32,
    /// Number of proxies in front of this one whose entries in `x-forwarded-for` are believed.
    /// Default: 0.
    #[serde(default)]
    pub trusted_hops: usize,
    /// `true` if every connection begins with a header of the PROXY protocol, whose address is then
    /// the client's. Only the proxy on hyper reads it. Default: `false`.
    #[serde(default)]
    pub proxy_protocol: bool,
    /// `true` if agents and the upstream get the normal form of paths, `false` if they get the
    /// client's spelling. Default: `true`.
    #[serde(default = "yes")]
    pub normalize_paths: bool,
    /// Treatment of requests that go on with the WebSocket protocol.
    #[serde(default)]
    pub websockets: WebSockets,
    /// The agents, in the order in which they are asked.
    #[serde(default)]
    pub agents: Vec<AgentSettings>,
}

/// The runtime that serves the connections to agents. Only proxies on Pingora have a choice.
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

/// Use of shared memory with agents on this machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum SharedMemory {
    /// Agents are asked through their sockets.
    #[default]
    Off,
    /// A worker waits for an answer without sleeping, for up to 100 µs, where that helps.
    Adaptive,
    /// A worker that waits for an answer does not sleep.
    BusyPoll,
}

/// Treatment of requests that go on with the WebSocket protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum WebSockets {
    /// They are forwarded if agents see their frames, or there are no agents, and refused
    /// otherwise.
    #[default]
    Inspect,
    /// They are forwarded.
    Pass,
    /// They are refused.
    Refuse,
}

/// One agent.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AgentSettings {
    /// Name of the agent in logs.
    pub name: String,
    /// Path of its socket, or the URL of its endpoint.
    pub endpoint: String,
    /// Handling of requests while the agent is unavailable.
    #[serde(default)]
    pub failure_mode: FailureMode,
    /// Set to [`Role::Changes`] if the agent changes requests and responses beyond their headers.
    #[serde(default)]
    pub role: Role,
    /// When a request's body goes on, if the agent subscribes to request bodies.
    #[serde(default)]
    pub request_body: BodyMode,
    /// When a response's body goes on, if the agent subscribes to response bodies.
    #[serde(default)]
    pub response_body: BodyMode,
    /// Number of bytes that are judged before a body with [`BodyMode::Hybrid`] goes on. Default:
    /// 64 KiB.
    pub hybrid_size: Option<usize>,
    /// Treatment of bodies with a content coding, if the agent subscribes to them.
    #[serde(default)]
    pub codings: Codings,
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

/// When a body that an agent sees goes on to its receiver.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum BodyMode {
    /// Each chunk, once it was allowed.
    #[default]
    Stream,
    /// After the first [`AgentSettings::hybrid_size`] bytes or the whole body were allowed.
    Hybrid,
    /// After the whole body was judged.
    Buffer,
    /// After the whole body was judged, and for requests before the upstream is contacted.
    InspectFirst,
}

/// Treatment of bodies with a content coding such as gzip.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Codings {
    /// The agent sees the decoded body.
    #[default]
    Decode,
    /// Bodies with a coding are refused.
    Refuse,
    /// The agent sees the body as it is sent.
    Pass,
}

impl Settings {
    /// Creates settings without agents. Everything else has its default.
    pub fn new(listen: SocketAddr, upstream: SocketAddr) -> Self {
        Self {
            listen,
            upstream,
            threads: 1,
            work_stealing: true,
            connections: Connections::default(),
            connections_per_agent: 1,
            shared_memory: SharedMemory::default(),
            agent_timeout_ms: one_second(),
            request_body_timeout_ms: one_minute(),
            max_held_body: one_mebibyte(),
            max_decoded_body: sixty_four_mebibytes(),
            max_decoding_ratio: hundred(),
            trusted_hops: 0,
            proxy_protocol: false,
            normalize_paths: true,
            websockets: WebSockets::default(),
            agents: Vec::new(),
        }
    }

    /// Reads a settings file.
    ///
    /// # Errors
    ///
    /// Returns an error if the file cannot be read or is invalid. It names the file, and the line
    /// if one is at fault.
    pub fn load(path: &Path) -> Result<Self, SettingsError> {
        let text = std::fs::read_to_string(path);
        let parsed = text.map_err(|error| SettingsError::new(error.to_string()));
        let parsed = parsed.and_then(|text| Self::parse(&text));
        parsed.map_err(|error| error.in_file(path))
    }

    /// Parses the text of a settings file.
    ///
    /// # Errors
    ///
    /// Returns an error if the text is invalid.
    pub fn parse(text: &str) -> Result<Self, SettingsError> {
        let parsed: Result<Self, _> = toml::from_str(text);
        let settings = parsed.map_err(|error| SettingsError::of_toml(&error, text))?;
        let mut names = HashSet::new();
        for (at, agent) in settings.agents.iter().enumerate() {
            let checked = settings.check(agent);
            let checked = checked.and_then(|()| match names.insert(&agent.name) {
                true => Ok(()),
                false => Err("another agent has this name".to_owned()),
            });
            checked.map_err(|reason| {
                SettingsError::new(format!("agent '{}': {reason}", agent.name))
                    .at(span_of_agent(text, at), text)
            })?;
        }
        Ok(settings)
    }

    fn check(&self, agent: &AgentSettings) -> Result<(), String> {
        let modes = [agent.request_body, agent.response_body];
        if !modes.contains(&BodyMode::Hybrid) {
            return match agent.hybrid_size {
                Some(_) => Err("hybrid_size needs a body with the mode \"hybrid\"".to_owned()),
                None if modes != [BodyMode::Stream; 2] && self.max_held_body == 0 => {
                    Err("bodies cannot be held back, as max_held_body is 0".to_owned())
                }
                None => Ok(()),
            };
        }
        match agent.hybrid_bytes() {
            0 => Err("hybrid_size must be at least 1".to_owned()),
            size if size > self.max_held_body => Err(format!(
                "hybrid_size is {size}, but max_held_body is {}",
                self.max_held_body
            )),
            _ => Ok(()),
        }
    }

    /// Returns the time limit for each answer of an agent.
    pub fn agent_timeout(&self) -> Duration {
        Duration::from_millis(self.agent_timeout_ms)
    }
}

impl AgentSettings {
    /// Creates an agent that decides and fails closed. Everything else has its default.
    pub fn new(name: impl Into<String>, endpoint: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            endpoint: endpoint.into(),
            failure_mode: FailureMode::default(),
            role: Role::default(),
            request_body: BodyMode::default(),
            response_body: BodyMode::default(),
            hybrid_size: None,
            codings: Codings::default(),
        }
    }

    pub(crate) fn hybrid_bytes(&self) -> usize {
        self.hybrid_size.unwrap_or(64 * 1024)
    }
}

/// Returns where the text describes an agent.
fn span_of_agent(text: &str, at: usize) -> Option<std::ops::Range<usize>> {
    #[derive(Deserialize)]
    struct Places {
        agents: Vec<Spanned<IgnoredAny>>,
    }
    let places: Places = toml::from_str(text).ok()?;
    places.agents.get(at).map(Spanned::span)
}

fn positive<'de, D, N>(deserializer: D) -> Result<N, D::Error>
where
    D: Deserializer<'de>,
    N: Deserialize<'de> + Default + PartialEq,
{
    let number = N::deserialize(deserializer)?;
    if number == N::default() {
        return Err(D::Error::custom("must be at least 1"));
    }
    Ok(number)
}

const fn one() -> usize {
    1
}

const fn yes() -> bool {
    true
}

const fn one_second() -> u64 {
    1_000
}

const fn one_minute() -> u64 {
    60_000
}

const fn one_mebibyte() -> usize {
    1 << 20
}

const fn sixty_four_mebibytes() -> usize {
    64 << 20
}

const fn hundred() -> u32 {
    100
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINIMAL: &str = "listen = '127.0.0.1:1'\nupstream = '127.0.0.1:2'\n";

    fn agent(name: &str, more: &str) -> String {
        format!("[[agents]]\nname = '{name}'\nendpoint = '/{name}'\n{more}\n")
    }

    fn refused(more: &str) -> String {
        let parsed = Settings::parse(&(MINIMAL.to_owned() + more));
        parsed.unwrap_err().to_string()
    }

    #[test]
    fn defaults_are_those_of_new() {
        let parsed = Settings::parse(MINIMAL).unwrap();
        let new = Settings::new(parsed.listen, parsed.upstream);
        assert_eq!(format!("{parsed:?}"), format!("{new:?}"));
        let parsed = Settings::parse(&(MINIMAL.to_owned() + &agent("a", ""))).unwrap();
        let new = AgentSettings::new("a", "/a");
        assert_eq!(format!("{:?}", parsed.agents[0]), format!("{new:?}"));
    }

    #[test]
    fn errors_name_line_and_reason() {
        assert!(refused("\ncolour = 'red'").starts_with("4:1: unknown field `colour`"));
        assert_eq!(refused("threads = 0"), "3:11: must be at least 1");
        let reason = refused("connections = 'somewhere'");
        assert!(
            reason.starts_with("3:15: unknown variant `somewhere`"),
            "{reason}"
        );
        let reason = refused(&agent("a", "failure_mode = 'maybe'"));
        assert!(
            reason.starts_with("6:16: unknown variant `maybe`"),
            "{reason}"
        );
        let reason = refused(&agent("a", "colour = 'red'"));
        assert!(
            reason.starts_with("6:1: unknown field `colour`"),
            "{reason}"
        );
        let twice = agent("a", "") + &agent("a", "");
        assert_eq!(
            refused(&twice),
            "7:1: agent 'a': another agent has this name"
        );
    }

    #[test]
    fn impossible_modes_are_refused() {
        for (top, more, reason) in [
            (
                "",
                "hybrid_size = 5",
                "hybrid_size needs a body with the mode \"hybrid\"",
            ),
            (
                "",
                "request_body = 'buffer'\nhybrid_size = 5",
                "hybrid_size needs",
            ),
            (
                "",
                "request_body = 'hybrid'\nhybrid_size = 0",
                "hybrid_size must be at least 1",
            ),
            (
                "max_held_body = 9",
                "response_body = 'hybrid'",
                "max_held_body is 9",
            ),
            (
                "max_held_body = 0",
                "request_body = 'inspect-first'",
                "max_held_body is 0",
            ),
        ] {
            let refused = refused(&format!("{top}\n{}", agent("a", more)));
            assert!(refused.starts_with("4:1: agent 'a': "), "{refused}");
            assert!(refused.contains(reason), "{refused}");
        }
    }

    #[test]
    fn file_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("proxy.toml");
        let missing = Settings::load(&file).unwrap_err().to_string();
        assert!(
            missing.starts_with(&format!("{}: ", file.display())),
            "{missing}"
        );
        std::fs::write(&file, "listen = 5").unwrap();
        let invalid = Settings::load(&file).unwrap_err();
        assert_eq!(invalid.line(), Some(1));
        let place = format!("{}:1:10: ", file.display());
        assert!(invalid.to_string().starts_with(&place), "{invalid}");
    }

    #[test]
    fn example_explains_every_key() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR"));
        let file = folder.join("../pingora-proxy/proxy.toml");
        assert_eq!(Settings::load(&file).unwrap().agents.len(), 2);
        let text = std::fs::read_to_string(&file).unwrap();
        let refused = refused("colour = 'red'") + &refused(&agent("a", "colour = 'red'"));
        let keys = refused.split('`').skip(1).step_by(2);
        for key in keys.filter(|key| !["colour", "agents"].contains(key)) {
            assert!(
                text.contains(&format!("\n{key} = ")),
                "{key} is not explained"
            );
        }
    }
}
