//! Dials proxies: keeps an agent's connections to them open.

mod connection;
mod retry;

use super::server::sessions::Sessions;
use crate::error::BindError;
use crate::handler::AgentHandler;
pub(super) use connection::Token;
use connection::{DialedConnection, Target};
use std::sync::Arc;
use std::time::Duration;

/// Settings of the connections to proxies that are dialed.
#[derive(Debug)]
pub(super) struct DialSettings {
    pub(super) proxies: Vec<String>,
    pub(super) connections: usize,
    /// Id to register. `None` takes the one in the handler's capabilities.
    pub(super) agent_id: Option<String>,
    pub(super) token: Token,
    pub(super) connect_timeout: Duration,
    pub(super) reconnect_interval: Duration,
    pub(super) keepalive_interval: Duration,
    pub(super) keepalive_timeout: Duration,
    #[cfg(feature = "tls")]
    pub(super) tls: crate::TlsConfig,
}

/// Proxies to dial.
#[derive(Debug)]
pub(super) struct Dialing {
    targets: Vec<Arc<Target>>,
    settings: Arc<DialSettings>,
}

impl Default for DialSettings {
    fn default() -> Self {
        Self {
            proxies: Vec::new(),
            connections: 4,
            agent_id: None,
            token: Token::None,
            connect_timeout: Duration::from_secs(5),
            reconnect_interval: Duration::from_millis(500),
            keepalive_interval: Duration::from_secs(10),
            keepalive_timeout: Duration::from_secs(5),
            #[cfg(feature = "tls")]
            tls: crate::TlsConfig::default(),
        }
    }
}

impl DialSettings {
    pub(super) fn dialing(self) -> Result<Dialing, BindError> {
        let targets = self.proxies.iter();
        let targets = targets.map(|proxy| Target::parse(proxy, &self).map(Arc::new));
        Ok(Dialing {
            targets: targets.collect::<Result<_, _>>()?,
            settings: Arc::new(self),
        })
    }
}

impl Dialing {
    /// Keeps connections to the proxies open until the sessions are told to stop.
    pub(super) fn start<H: AgentHandler>(self, sessions: &Arc<Sessions<H>>) {
        for target in self.targets {
            for _ in 0..self.settings.connections {
                let connection = DialedConnection {
                    sessions: Arc::clone(sessions),
                    target: Arc::clone(&target),
                    settings: Arc::clone(&self.settings),
                    stopping: sessions.stopping(),
                };
                sessions.spawn(connection.run());
            }
        }
    }
}
