use super::control::AgentControl;
use super::dialling::{Line, Target, Token};
use super::handler::AgentHandler;
use crate::error::AgentProtocolError;
use crate::wire::Encoding;
use std::future::pending;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::timeout;

/// Connects an agent to proxies, and again whenever a connection is lost.
///
/// ```no_run
/// # async fn example(handler: impl tollgate::AgentHandler) -> Result<(), tollgate::AgentProtocolError> {
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

/// How each connection is made and kept.
#[derive(Debug, Clone)]
pub(super) struct DialSettings {
    /// `None`: the one in the handler's capabilities.
    pub(super) agent_id: Option<String>,
    pub(super) token: Token,
    pub(super) encodings: Vec<Encoding>,
    pub(super) max_concurrent: usize,
    pub(super) connect_timeout: Duration,
    pub(super) reconnect_interval: Duration,
    pub(super) keepalive_interval: Duration,
    pub(super) keepalive_timeout: Duration,
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
            drain_timeout: Duration::from_secs(30),
        }
    }
}

impl<H: AgentHandler> AgentDialer<H> {
    /// A dialer that knows no proxy yet.
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

    /// Adds a proxy: the path of a Unix socket, `/path` or `unix:/path`, `tcp://host:port`, or, with the feature
    /// `tls` and `with_tls`, `tls://host:port`. The name of a host is resolved whenever it is
    /// connected to.
    #[must_use]
    pub fn with_proxy(mut self, endpoint: impl Into<String>) -> Self {
        self.proxies.push(endpoint.into());
        self
    }

    /// Sets how proxies at `tls://host:port` are talked to.
    #[cfg(feature = "tls")]
    #[must_use]
    pub fn with_tls(mut self, config: crate::TlsConfig) -> Self {
        self.tls = config;
        self
    }

    /// Sets how many connections are kept to each proxy, 4 by default.
    #[must_use]
    pub fn with_connections(mut self, connections: usize) -> Self {
        self.connections = connections.max(1);
        self
    }

    /// Sets the id to register; without it, the one in the handler's capabilities.
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

    /// Sets the file that holds the token. It is read for each registration, so that a new token needs no new start;
    /// white space around the token does not count.
    #[must_use]
    pub fn with_token_file(mut self, path: impl Into<PathBuf>) -> Self {
        self.settings.token = Token::File(path.into());
        self
    }

    /// Sets the encodings that are offered, the preferred one first, both by default. The published protocol has JSON
    /// alone; only proxies that know tollgate's extension choose.
    #[must_use]
    pub fn with_encodings(mut self, encodings: impl Into<Vec<Encoding>>) -> Self {
        self.settings.encodings = encodings.into();
        self
    }

    /// Sets how many events of one connection may wait in the handler at once, 1,024 by default; more
    /// stay unread.
    #[must_use]
    pub fn with_max_concurrent_per_connection(mut self, events: usize) -> Self {
        self.settings.max_concurrent = events.max(1);
        self
    }

    /// Sets how long connecting and registering may take, 5 s by default.
    #[must_use]
    pub fn with_connect_timeout(mut self, timeout: Duration) -> Self {
        self.settings.connect_timeout = timeout;
        self
    }

    /// Sets how long to wait before connecting again, 500 ms by default: less a part by chance, up to all of it after a
    /// connection is lost and up to half after an attempt has failed. Each further wait is twice as long: up to 1 s
    /// where the proxy is not there, so that agents are back soon after it is, and up to 30 s where it rejects the
    /// agent.
    #[must_use]
    pub fn with_reconnect_interval(mut self, interval: Duration) -> Self {
        self.settings.reconnect_interval = interval;
        self
    }

    /// Sets after how long a silence the proxy is asked for a sign of life, and how long that may take before the
    /// connection counts as lost; 10 s and 5 s by default. Proxies without tollgate's extension are not asked, as the
    /// published ones do not answer.
    #[must_use]
    pub fn with_keepalive(mut self, interval: Duration, timeout: Duration) -> Self {
        self.settings.keepalive_interval = interval;
        self.settings.keepalive_timeout = timeout;
        self
    }

    /// Sets how long unfinished events get when the dialer stops, 30 s by default.
    #[must_use]
    pub fn with_drain_timeout(mut self, timeout: Duration) -> Self {
        self.settings.drain_timeout = timeout;
        self
    }

    /// A handle for telling connected proxies something unasked, and for seeing how many connections there are.
    pub fn control(&self) -> AgentControl {
        self.control.clone()
    }

    /// Connects, and serves for ever.
    ///
    /// # Errors
    ///
    /// As for [`AgentDialer::run_until`].
    pub async fn run(self) -> Result<(), AgentProtocolError> {
        self.run_until(pending()).await
    }

    /// Connects, and serves until `shutdown` completes. Then proxies are told to send no new exchanges, what is being
    /// worked on is answered, and connections end.
    ///
    /// # Errors
    ///
    /// [`InvalidEndpoint`](AgentProtocolError::InvalidEndpoint), or `InvalidTls`. A proxy that cannot be connected to, or rejects the
    /// agent, is none: the log says so, and it is tried again.
    pub async fn run_until(
        self,
        shutdown: impl Future<Output = ()>,
    ) -> Result<(), AgentProtocolError> {
        let targets = self.targets()?;
        let settings = Arc::new(self.settings);
        let stopping = watch::Sender::new(false);
        let mut lines = JoinSet::new();
        for target in targets {
            for _ in 0..self.connections {
                let line = Line {
                    handler: Arc::clone(&self.handler),
                    control: self.control.clone(),
                    target: Arc::clone(&target),
                    settings: Arc::clone(&settings),
                    stopping: stopping.subscribe(),
                };
                lines.spawn(line.keep());
            }
        }
        shutdown.await;
        stopping.send_replace(true);
        let drained = async { while lines.join_next().await.is_some() {} };
        // Whoever is not done by then is cut off when the set is dropped.
        let _ = timeout(settings.drain_timeout, drained).await;
        Ok(())
    }

    fn targets(&self) -> Result<Vec<Arc<Target>>, AgentProtocolError> {
        self.proxies
            .iter()
            .map(|proxy| self.target(proxy).map(Arc::new))
            .collect()
    }

    #[cfg(feature = "tls")]
    fn target(&self, proxy: &str) -> Result<Target, AgentProtocolError> {
        Target::with_tls(proxy, &self.tls)
    }

    #[cfg(not(feature = "tls"))]
    fn target(&self, proxy: &str) -> Result<Target, AgentProtocolError> {
        proxy.parse()
    }
}
