//! Dials proxies: keeps an agent's connections to them open.

mod connection;
mod retry;

use super::control::AgentControl;
use super::handler::AgentHandler;
use crate::error::AgentProtocolError;
use crate::protocol::DEFAULT_DRAIN_TIMEOUT;
use crate::wire::Encoding;
use connection::{DialedConnection, Target, Token};
use std::future::pending;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::timeout;

/// Connects an agent to proxies, and reconnects whenever a connection is lost.
///
/// ```no_run
/// # async fn example(
/// #     handler: impl tollgate::AgentHandler,
/// # ) -> Result<(), tollgate::AgentProtocolError> {
/// use tollgate::AgentDialer;
///
/// AgentDialer::new(handler)
///     .with_proxy("tcp://proxy-1.internal:7000")
///     .with_proxy("tcp://proxy-2.internal:7000")
///     .with_token_file("/run/secrets/agent-token")
///     .run_until(async { tokio::signal::ctrl_c().await.unwrap_or_default() })
///     .await
/// # }
/// ```
#[derive(Debug)]
pub struct AgentDialer<H> {
    handler: Arc<H>,
    control: AgentControl,
    proxies: Vec<String>,
    connections: usize,
    settings: DialSettings,
    #[cfg(feature = "tls")]
    tls: crate::TlsConfig,
}

/// Settings that all connections of a dialer share.
#[derive(Debug, Clone)]
struct DialSettings {
    /// Id to register. `None` takes the one in the handler's capabilities.
    agent_id: Option<String>,
    token: Token,
    encodings: Vec<Encoding>,
    max_concurrent: usize,
    connect_timeout: Duration,
    reconnect_interval: Duration,
    keepalive_interval: Duration,
    keepalive_timeout: Duration,
    drain_timeout: Duration,
}

impl Default for DialSettings {
    fn default() -> Self {
        Self {
            agent_id: None,
            token: Token::None,
            encodings: vec![Encoding::MessagePack, Encoding::Json],
            max_concurrent: 1024,
            connect_timeout: Duration::from_secs(5),
            reconnect_interval: Duration::from_millis(500),
            keepalive_interval: Duration::from_secs(10),
            keepalive_timeout: Duration::from_secs(5),
            drain_timeout: DEFAULT_DRAIN_TIMEOUT,
        }
    }
}

impl<H: AgentHandler> AgentDialer<H> {
    /// Creates a dialer without any proxy.
    pub fn new(handler: H) -> Self {
        Self {
            handler: Arc::new(handler),
            control: AgentControl::default(),
            proxies: Vec::new(),
            connections: 4,
            settings: DialSettings::default(),
            #[cfg(feature = "tls")]
            tls: crate::TlsConfig::default(),
        }
    }

    /// Adds a proxy: the path of a Unix socket (`/path` or `unix:/path`), `tcp://host:port`, or
    /// `tls://host:port` with the feature `tls` and `with_tls`. Host names are resolved on every
    /// attempt to connect.
    #[must_use]
    pub fn with_proxy(mut self, endpoint: impl Into<String>) -> Self {
        self.proxies.push(endpoint.into());
        self
    }

    /// Sets the TLS settings for proxies at `tls://host:port`.
    #[cfg(feature = "tls")]
    #[must_use]
    pub fn with_tls(mut self, config: crate::TlsConfig) -> Self {
        self.tls = config;
        self
    }

    /// Sets the number of connections that are kept open to each proxy, 4 by default.
    #[must_use]
    pub fn with_connections(mut self, connections: usize) -> Self {
        self.connections = connections.max(1);
        self
    }

    /// Sets the id to register, by default the one in the handler's capabilities.
    #[must_use]
    pub fn with_agent_id(mut self, agent_id: impl Into<String>) -> Self {
        self.settings.agent_id = Some(agent_id.into());
        self
    }

    /// Sets the token to register with.
    #[must_use]
    pub fn with_token(mut self, token: impl Into<String>) -> Self {
        self.settings.token = Token::Fixed(token.into());
        self
    }

    /// Sets the file that holds the token. The file is read for each registration, so a new token
    /// takes effect without a restart. White space around the token is ignored.
    #[must_use]
    pub fn with_token_file(mut self, path: impl Into<PathBuf>) -> Self {
        self.settings.token = Token::from_file(path.into());
        self
    }

    /// Sets the encodings that are offered, in order of preference; MessagePack and JSON by
    /// default. `zentinel-agent-protocol` has JSON only; a proxy chooses among the offered
    /// encodings only if it supports tollgate's extension.
    #[must_use]
    pub fn with_encodings(mut self, encodings: impl Into<Vec<Encoding>>) -> Self {
        self.settings.encodings = encodings.into();
        self
    }

    /// Sets how many events of one connection may be in the handler at once, 1,024 by default.
    /// Further events stay unread.
    #[must_use]
    pub fn with_max_concurrent_per_connection(mut self, events: usize) -> Self {
        self.settings.max_concurrent = events.max(1);
        self
    }

    /// Sets the time limit for connecting and registering, 5 s by default.
    #[must_use]
    pub fn with_connect_timeout(mut self, timeout: Duration) -> Self {
        self.settings.connect_timeout = timeout;
        self
    }

    /// Sets the delay before reconnecting, 500 ms by default.
    ///
    /// The delay is random: up to the whole interval after a connection was lost, and between half
    /// and all of it after a failed attempt. It doubles with each further failure, up to 1 s while
    /// the proxy is absent, so that agents are back soon after it is, and up to 30 s while it
    /// rejects the agent.
    #[must_use]
    pub fn with_reconnect_interval(mut self, interval: Duration) -> Self {
        self.settings.reconnect_interval = interval;
        self
    }

    /// Sets after how long a silence the proxy is pinged, and how long it may take to answer before
    /// the connection counts as lost; 10 s and 5 s by default. Proxies without tollgate's extension
    /// are not pinged, because those on `zentinel-agent-protocol` do not answer.
    #[must_use]
    pub fn with_keepalive(mut self, interval: Duration, timeout: Duration) -> Self {
        self.settings.keepalive_interval = interval;
        self.settings.keepalive_timeout = timeout;
        self
    }

    /// Sets the time limit for unfinished events when the dialer stops, 30 s by default.
    #[must_use]
    pub fn with_drain_timeout(mut self, timeout: Duration) -> Self {
        self.settings.drain_timeout = timeout;
        self
    }

    /// Returns a handle that sends notices to the connected proxies and counts the connections.
    pub fn control(&self) -> AgentControl {
        self.control.clone()
    }

    /// Connects and serves forever.
    ///
    /// # Errors
    ///
    /// As for [`AgentDialer::run_until`].
    pub async fn run(self) -> Result<(), AgentProtocolError> {
        self.run_until(pending()).await
    }

    /// Connects and serves until `shutdown` completes. The dialer then tells the proxies to send no
    /// new exchanges, answers the events that are being worked on, and closes its connections.
    ///
    /// # Errors
    ///
    /// [`InvalidEndpoint`](AgentProtocolError::InvalidEndpoint), or `InvalidTls`. A proxy that
    /// cannot be reached or rejects the agent is not an error: it is logged, and the dialer tries
    /// again.
    pub async fn run_until(
        self,
        shutdown: impl Future<Output = ()>,
    ) -> Result<(), AgentProtocolError> {
        let targets = self.targets()?;
        let settings = Arc::new(self.settings);
        let stopping = watch::Sender::new(false);
        let mut connections = JoinSet::new();
        for target in targets {
            for _ in 0..self.connections {
                let connection = DialedConnection {
                    handler: Arc::clone(&self.handler),
                    control: self.control.clone(),
                    target: Arc::clone(&target),
                    settings: Arc::clone(&settings),
                    stopping: stopping.subscribe(),
                };
                connections.spawn(connection.run());
            }
        }
        shutdown.await;
        stopping.send_replace(true);
        let drained = async { while connections.join_next().await.is_some() {} };
        // Connections that are not done by then are cut off when the set is dropped.
        let _ = timeout(settings.drain_timeout, drained).await;
        Ok(())
    }

    fn targets(&self) -> Result<Vec<Arc<Target>>, AgentProtocolError> {
        self.proxies
            .iter()
            .map(|proxy| self.parse_target(proxy).map(Arc::new))
            .collect()
    }

    #[cfg(feature = "tls")]
    fn parse_target(&self, proxy: &str) -> Result<Target, AgentProtocolError> {
        Target::with_tls(proxy, &self.tls)
    }

    #[cfg(not(feature = "tls"))]
    fn parse_target(&self, proxy: &str) -> Result<Target, AgentProtocolError> {
        proxy.parse()
    }
}
