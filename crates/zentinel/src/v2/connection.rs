//! The connection of a client to one agent: an agent of a pool that has no other.

use super::client::{ConfigUpdateCallback, FlowState, MetricsCallback};
use super::send::{Sendable, configure};
use super::{AgentCapabilities, CancelReason, DEFAULT_CONNECT_TIMEOUT};
use crate::{AgentProtocolError, AgentResponse};
use serde_json::Value;
use std::fmt;
use std::sync::{Arc, Once};
use std::time::Duration;
use tollgate::config_push::ConfigUpdateHandler;
use tollgate::control::{AgentNotice, NoticeError, Notices};
use tollgate::{Agent, AgentConfig, AgentPool};

pub(super) struct Connection {
    pub(super) agent_id: String,
    pub(super) endpoint: String,
    pub(super) timeout: Duration,
    pub(super) connect_timeout: Duration,
    pub(super) config: Option<Value>,
    pub(super) metrics_callback: Option<MetricsCallback>,
    pub(super) config_update_callback: Option<ConfigUpdateCallback>,
    /// Done once reports are passed to the callback.
    is_listening: Once,
    pool: AgentPool,
}

impl Connection {
    pub(super) fn new(agent_id: String, endpoint: String, timeout: Duration) -> Self {
        Self {
            agent_id,
            endpoint,
            timeout,
            connect_timeout: DEFAULT_CONNECT_TIMEOUT,
            config: None,
            metrics_callback: None,
            config_update_callback: None,
            is_listening: Once::new(),
            pool: AgentPool::with_config(
                super::pool::defaults()
                    .connections_per_agent(1)
                    .drain_timeout(Duration::ZERO),
            ),
        }
    }

    /// Connects, in place of an earlier connection.
    pub(super) async fn connect(&self, endpoint: String) -> Result<(), AgentProtocolError> {
        if let Some(callback) = self.config_update_callback.clone() {
            let handler = ConfigUpdateHandler::new()
                .on_request(move |agent, request| callback(agent.to_owned(), request.clone()));
            self.pool.set_config_update_handler(handler);
        }
        let mut config = AgentConfig::new(&self.agent_id, endpoint)
            .timeout(self.timeout)
            .connect_timeout(self.connect_timeout)
            .require_connection();
        if let Some(settings) = &self.config {
            config = config.settings(settings.clone(), None);
        }
        // Before the connection exists, so that no report is missed.
        if let Some(callback) = &self.metrics_callback {
            self.is_listening.call_once(|| {
                tokio::spawn(pass_on(self.pool.notices(), Arc::clone(callback)));
            });
        }
        self.pool.replace(config).await?;
        Ok(())
    }

    /// Returns the agent; an error if the client is not connected.
    pub(super) fn agent(&self) -> Result<Agent, AgentProtocolError> {
        let agent = self.pool.agent(&self.agent_id);
        agent.ok_or(AgentProtocolError::ConnectionClosed)
    }

    pub(super) fn close(&self) {
        // Fails if the client is not connected.
        let _ = self.pool.remove(&self.agent_id);
    }

    pub(super) fn capabilities(&self) -> Option<AgentCapabilities> {
        self.agent().ok()?.capabilities()
    }

    pub(super) fn is_connected(&self) -> bool {
        self.agent()
            .is_ok_and(|agent| agent.stats().active_connections > 0)
    }

    pub(super) fn is_healthy(&self) -> bool {
        self.agent().is_ok_and(|agent| agent.is_healthy())
    }

    pub(super) fn in_flight(&self) -> u64 {
        self.agent()
            .map_or(0, |agent| agent.stats().total_in_flight)
    }

    pub(super) fn flow_state(&self) -> FlowState {
        let metrics = self.pool.metrics().snapshot();
        match metrics.agents.get(&self.agent_id) {
            Some(agent) if agent.paused_connections > 0 => FlowState::Paused,
            _ if self.is_connected() && !self.is_healthy() => FlowState::Draining,
            _ => FlowState::Normal,
        }
    }

    pub(super) async fn cancel_request(
        &self,
        correlation_id: &str,
        reason: CancelReason,
    ) -> Result<(), AgentProtocolError> {
        Ok(self.agent()?.cancel(correlation_id, reason).await?)
    }

    pub(super) async fn cancel_all(
        &self,
        reason: CancelReason,
    ) -> Result<usize, AgentProtocolError> {
        Ok(self.agent()?.cancel_all(reason).await?)
    }

    pub(super) async fn ping(&self) -> Result<Duration, AgentProtocolError> {
        Ok(self.agent()?.ping().await?)
    }

    pub(super) async fn send<E: Sendable>(
        &self,
        correlation_id: &str,
        event: &E,
    ) -> Result<AgentResponse, AgentProtocolError> {
        let agent = self.agent()?;
        Ok(event.send_to(&agent, correlation_id).await?)
    }

    pub(super) async fn send_configure(
        &self,
        correlation_id: &str,
        settings: &Value,
    ) -> Result<AgentResponse, AgentProtocolError> {
        let agent = self.agent()?;
        configure(&agent, correlation_id, settings).await
    }
}

/// Declares methods of a client that pass events to something that sends them.
macro_rules! forward_sends {
    ($client:ident, |$this:ident| ($connection:expr);
        $($name:ident($event:ty) $doc:literal,)*
    ) => {
        impl $client {
            $(
                #[doc = $doc]
                ///
                /// # Errors
                ///
                /// [`Timeout`](crate::AgentProtocolError::Timeout);
                /// [`ConnectionClosed`](crate::AgentProtocolError::ConnectionClosed) if the
                /// connection ends or there is none; and as for
                /// [`AgentPool::send_request_headers`](crate::v2::AgentPool::send_request_headers).
                pub async fn $name(
                    &self,
                    correlation_id: &str,
                    event: &$event,
                ) -> Result<crate::AgentResponse, crate::AgentProtocolError> {
                    let $this = self;
                    $connection.send(correlation_id, event).await
                }
            )*
        }
    };
}
pub(super) use forward_sends;

/// Passes the metrics that the agent reports to a callback, until the pool is dropped.
async fn pass_on(mut notices: Notices, callback: MetricsCallback) {
    loop {
        match notices.recv().await {
            Ok(AgentNotice::Metrics { report, .. }) => callback(report),
            Ok(_) | Err(NoticeError::Missed(_)) => {}
            Err(_) => return,
        }
    }
}

impl fmt::Debug for Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connection")
            .field("agent_id", &self.agent_id)
            .field("endpoint", &self.endpoint)
            .field("is_connected", &self.is_connected())
            .finish_non_exhaustive()
    }
}
