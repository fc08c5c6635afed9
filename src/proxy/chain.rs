//! The agents that a proxy asks about each request, and what each of them may do.

use super::head::PathForm;
use crate::configuration::configuration;
use crate::pool::{Agent, AgentPool};
use std::fmt::{self, Write};
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Agents that a proxy asks about each HTTP request, in the order in which they are asked.
///
/// [`begin`](Self::begin) starts a [`Transaction`](super::Transaction). It turns one HTTP request
/// and its response into events, and the answers of the agents into changes or a
/// [`Rejection`](super::Rejection).
///
/// Clones share everything.
///
/// ```no_run
/// # async fn example() -> Result<(), tollgate::AddError> {
/// use tollgate::proxy::{AgentChain, AgentRole, BodyMode, ChainAgent};
/// use tollgate::{AgentConfig, AgentPool};
///
/// let pool = AgentPool::new();
/// let waf = pool.add(AgentConfig::new("waf", "/run/waf.sock")).await?;
/// let tagger = pool.add(AgentConfig::new("tagger", "/run/tagger.sock")).await?;
/// let chain = AgentChain::new(&pool)
///     .agent(ChainAgent::new(waf).request_body(BodyMode::InspectFirst))
///     .agent(ChainAgent::new(tagger).role(AgentRole::Changes));
/// # drop(chain);
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct AgentChain(Arc<Chain>);

/// State shared by a chain and its transactions.
#[derive(Clone)]
pub(super) struct Chain {
    /// Agents are usable only while this exists.
    pub(super) pool: AgentPool,
    pub(super) agents: Vec<ChainAgent>,
    /// Groups of agents that are asked at once, as ranges of `agents`.
    pub(super) stages: Vec<Range<usize>>,
    pub(super) config: ChainConfig,
    pub(super) ids: Arc<IdSource>,
}

configuration! {
    /// Settings of an [`AgentChain`].
    #[derive(Debug, Clone)]
    #[non_exhaustive]
    pub struct ChainConfig {
        /// Number of proxies in front of this one whose entries in `x-forwarded-for` are believed.
        /// 0 by default: the client is the other side of the connection.
        pub trusted_hops: usize,
        /// Form of the path that agents and the upstream get.
        pub path_form: PathForm,
        /// Treatment of requests that go on with the WebSocket protocol.
        pub websockets: WebSocketMode,
        /// Time for which a client may send nothing of a request's body that agents see, 60 s by
        /// default. The request is refused with 408 afterwards.
        pub request_body_timeout: Duration,
        /// Number of bytes of a body that are held back at most, 1 MiB by default: while agents ask
        /// for more of it, or by the [`BodyMode`]. A body that is decoded for agents is held in
        /// both forms, each within the limit.
        pub max_held_body: usize,
        /// Number of bytes that a body may have after it is decoded for agents, 64 MiB by default.
        pub max_decoded_body: usize,
        /// Limit of how many times larger a body may become by decoding, 100 by default. The first
        /// 64 KiB are free.
        pub max_decoding_ratio: u32,
    }
}

impl Default for ChainConfig {
    fn default() -> Self {
        Self {
            trusted_hops: 0,
            path_form: PathForm::Normal,
            websockets: WebSocketMode::default(),
            request_body_timeout: Duration::from_secs(60),
            max_held_body: 1024 * 1024,
            max_decoded_body: 64 * 1024 * 1024,
            max_decoding_ratio: 100,
        }
    }
}

configuration! {
    /// An agent of a chain, and what it may do.
    #[derive(Debug, Clone)]
    #[non_exhaustive]
    pub struct ChainAgent {
        /// Handle of the agent.
        pub agent: Agent,
        /// Permitted effects of the agent.
        pub role: AgentRole,
        /// When a request's body goes on, if the agent subscribes to request bodies.
        pub request_body: BodyMode,
        /// When a response's body goes on, if the agent subscribes to response bodies.
        pub response_body: BodyMode,
        /// Treatment of bodies with a content coding, if the agent subscribes to them.
        pub codings: CodingMode,
    }
}

impl ChainAgent {
    /// Creates an agent that decides, sees bodies chunk by chunk, and sees them decoded.
    pub fn new(agent: Agent) -> Self {
        Self {
            agent,
            role: AgentRole::default(),
            request_body: BodyMode::default(),
            response_body: BodyMode::default(),
            codings: CodingMode::default(),
        }
    }
}

/// Permitted effects of an agent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum AgentRole {
    /// Allows or denies, and may change headers. Consecutive agents with this role are asked at
    /// once, so they do not see each other's changes. Bodies keep their length: changing one is an
    /// error of the agent.
    #[default]
    Decides,
    /// May change everything. Is asked alone; later agents see its changes.
    Changes,
}

/// When a body goes on to its receiver. With several agents the most conservative mode counts, in
/// the order of this list.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
#[non_exhaustive]
pub enum BodyMode {
    /// A chunk goes on once agents have allowed it.
    #[default]
    Stream,
    /// Nothing goes on before agents have allowed this many bytes or the whole body; afterwards
    /// like [`BodyMode::Stream`].
    Hybrid(usize),
    /// Nothing goes on before agents have judged the whole body. A body above
    /// [`ChainConfig::max_held_body`] is refused.
    Buffer,
    /// For requests: the upstream is neither chosen nor contacted before agents have judged the
    /// whole body, and changes of headers that they make on the body apply. For responses like
    /// [`BodyMode::Buffer`].
    InspectFirst,
}

/// Treatment of bodies with a content coding such as gzip. With several agents the most
/// conservative mode counts, in the order of this list.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
#[non_exhaustive]
pub enum CodingMode {
    /// Agents see the body as it is sent, and its coding in the headers.
    Pass,
    /// Agents see the body as its receiver sees it decoded. The original goes on unless an agent
    /// may have changed it, see [`Transaction`](super::Transaction); a changed body
    /// goes on without a coding. Unknown
    /// and combined codings are refused. Needs the feature `codings`, without which every coding is
    /// unknown.
    #[default]
    Decode,
    /// Requests with a coding are refused with 415. Upstreams are asked for responses without a
    /// coding, and one with a coding is a 502.
    Refuse,
}

/// Treatment of requests that go on with the WebSocket protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum WebSocketMode {
    /// They are forwarded if an agent subscribes to frames, or there are no agents. Otherwise they
    /// are refused with 501, since no agent would see what follows.
    #[default]
    Inspect,
    /// They are forwarded. Frames are inspected if an agent subscribes to them.
    Pass,
    /// They are refused with 501.
    Refuse,
}

impl AgentChain {
    /// Creates a chain without agents, which allows every request.
    pub fn new(pool: &AgentPool) -> Self {
        Self::with_config(pool, ChainConfig::default())
    }

    /// Creates a chain without agents with these settings.
    pub fn with_config(pool: &AgentPool, config: ChainConfig) -> Self {
        Self(Arc::new(Chain {
            pool: pool.clone(),
            agents: Vec::new(),
            stages: Vec::new(),
            config,
            ids: Arc::new(IdSource::new()),
        }))
    }

    /// Appends an agent. Transactions that have begun are not affected.
    #[must_use]
    pub fn agent(mut self, agent: ChainAgent) -> Self {
        let chain = Arc::make_mut(&mut self.0);
        let at = chain.agents.len();
        let joins = agent.role == AgentRole::Decides
            && chain
                .agents
                .last()
                .is_some_and(|last| last.role == AgentRole::Decides);
        match chain.stages.last_mut() {
            Some(stage) if joins => stage.end = at + 1,
            _ => chain.stages.push(at..at + 1),
        }
        chain.agents.push(agent);
        self
    }

    /// Returns whether there are no agents.
    pub fn is_empty(&self) -> bool {
        self.0.agents.is_empty()
    }

    pub(super) fn shared(&self) -> &Arc<Chain> {
        &self.0
    }
}

impl fmt::Debug for AgentChain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AgentChain")
            .field("agents", &self.0.agents)
            .field("config", &self.0.config)
            .finish_non_exhaustive()
    }
}

/// Source of correlation ids. They are unique in this process and, with high probability, among
/// proxies.
pub(super) struct IdSource {
    prefix: u64,
    next: AtomicU64,
}

impl IdSource {
    fn new() -> Self {
        Self {
            prefix: crate::entropy::unique(),
            next: AtomicU64::new(0),
        }
    }

    pub(super) fn next(&self) -> RequestId {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let mut id = RequestId {
            bytes: [0; RequestId::MAX_LEN],
            len: 0,
        };
        // Never fails: an id has at most this length.
        let _ = write!(id, "{:016x}-{number:x}", self.prefix);
        id
    }
}

/// Correlation id of a transaction, without an allocation.
#[derive(Clone, Copy)]
pub(super) struct RequestId {
    bytes: [u8; Self::MAX_LEN],
    len: usize,
}

impl RequestId {
    const MAX_LEN: usize = 33;

    pub(super) fn as_str(&self) -> &str {
        // The bytes come from a `str`, so they are always valid.
        str::from_utf8(&self.bytes[..self.len]).unwrap_or_default()
    }
}

impl Write for RequestId {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let end = self.len + text.len();
        let room = self.bytes.get_mut(self.len..end).ok_or(fmt::Error)?;
        room.copy_from_slice(text.as_bytes());
        self.len = end;
        Ok(())
    }
}
