//! Handles of agents.

use super::AgentPoolStats;
use super::member::Member;
use crate::connection::{CircuitBreakerState, Connection};
use crate::debug_fields::debug_fields;
use crate::error::CallError;
use crate::protocol::{AgentCapabilities, CancelReason};
use crate::wire::Encoding;
use std::sync::Arc;
use std::time::Duration;

/// An agent of a pool.
///
/// A handle is cheap to clone. It stays valid until the agent is removed or replaced, or the last
/// handle of the pool is dropped; then its calls fail with
/// [`Removed`](CallError::Removed), [`Replaced`](CallError::Replaced) or
/// [`PoolDropped`](CallError::PoolDropped). It does not keep the pool open.
///
/// # Ways to send events
///
/// * [`Agent::exchange`] begins an [`Exchange`](super::Exchange), which holds its connection.
///   Sending its events takes no lock and, once buffers have grown to their size, allocates nothing
///   in the pool. Use it where you can keep a value for the duration of an HTTP request.
/// * [`Agent::send`] looks the exchange up by its correlation id, for proxies whose phases share
///   only that.
#[derive(Clone)]
pub struct Agent(pub(super) Arc<Member>);

impl Agent {
    /// Returns the name of the agent.
    pub fn id(&self) -> &str {
        self.0.id()
    }

    #[cfg(feature = "http")]
    pub(crate) fn shared_id(&self) -> Arc<str> {
        Arc::clone(self.0.id())
    }

    /// Returns statistics of the agent.
    pub fn stats(&self) -> AgentPoolStats {
        self.0.stats()
    }

    /// Returns the state of the circuit breaker.
    pub fn circuit_breaker_state(&self) -> CircuitBreakerState {
        self.0.state.shared.breaker.state()
    }

    /// Returns whether the circuit breaker is not open, and at least one connection takes new
    /// exchanges and did not fail too many calls in a row.
    pub fn is_healthy(&self) -> bool {
        self.0.is_available()
    }

    /// Returns the capabilities that the agent announced when it was connected; `None` if it has no
    /// connection.
    pub fn capabilities(&self) -> Option<AgentCapabilities> {
        self.with_connection(|connection| connection.capabilities.clone())
    }

    /// Returns the encoding of payloads; `None` if the agent has no connection.
    pub fn encoding(&self) -> Option<Encoding> {
        self.with_connection(|connection| connection.dialect.encoding)
    }

    /// Returns the version of tollgate's extension of the protocol that the agent speaks, 0 if it
    /// speaks none; `None` if it has no connection.
    pub fn extension_version(&self) -> Option<u64> {
        self.with_connection(|connection| connection.dialect.extension_version())
    }

    /// Returns whether the agent speaks tollgate's extension of the protocol; `None` if it has no
    /// connection.
    ///
    /// With it, bodies are sent unencoded inside MessagePack, and several events of one exchange
    /// may be unanswered at once.
    pub fn uses_extension(&self) -> Option<bool> {
        self.with_connection(|connection| connection.dialect.has_streams())
    }

    /// Tells the agent to abandon an exchange, and fails its pending call, if there is one, with
    /// [`Cancelled`](CallError::Cancelled).
    ///
    /// # Errors
    ///
    /// As for [`Agent::send`], but without the errors of waiting.
    pub async fn cancel(
        &self,
        correlation_id: &str,
        reason: CancelReason,
    ) -> Result<(), CallError> {
        let agent = &self.0;
        let key = agent.correlation(correlation_id).key;
        let snapshot = agent.snapshot_full();
        let carrying = snapshot
            .open_connections()
            .find(|connection| connection.calls.slots.contains(key));
        let affinities = &agent.pool.affinities;
        let pinned = affinities.pinned(correlation_id, agent.id());
        affinities.unpin(correlation_id, agent.id());
        match carrying.or(pinned.as_ref()) {
            Some(connection) => connection.cancel(correlation_id, reason).await,
            None => {
                let connection = self.open_connection()?;
                connection.cancel(correlation_id, reason).await
            }
        }
    }

    /// Cancels every call that waits for the agent's answer, and returns their number.
    ///
    /// Calls that wait for a slot are not cancelled.
    ///
    /// # Errors
    ///
    /// As for [`Agent::cancel`].
    pub async fn cancel_all(&self, reason: CancelReason) -> Result<usize, CallError> {
        if let Some(error) = self.0.gone() {
            return Err(error);
        }
        let mut cancelled = 0;
        for connection in self.0.snapshot_full().open_connections() {
            cancelled += connection.cancel_all(reason).await?;
        }
        Ok(cancelled)
    }

    /// Pings the agent and returns the round-trip time.
    ///
    /// # Errors
    ///
    /// As for [`Agent::cancel`], and [`Timeout`](CallError::Timeout).
    pub async fn ping(&self) -> Result<Duration, CallError> {
        let connection = self.open_connection()?;
        connection.ping(self.0.config.request_timeout).await
    }

    /// Removes the agent from the pool: see [`AgentPool::remove`](super::AgentPool::remove).
    ///
    /// # Errors
    ///
    /// [`Removed`](CallError::Removed), [`Replaced`](CallError::Replaced) and
    /// [`PoolDropped`](CallError::PoolDropped) if the handle is outdated.
    pub fn remove(&self) -> Result<(), CallError> {
        self.0.remove()
    }

    /// Returns an open connection.
    pub(super) fn open_connection(&self) -> Result<Arc<Connection>, CallError> {
        if let Some(error) = self.0.gone() {
            return Err(error);
        }
        let snapshot = self.0.snapshot();
        let connection = snapshot.open_connections().next().cloned();
        connection.ok_or_else(|| self.0.unavailable())
    }

    fn with_connection<T>(&self, read: impl FnOnce(&Connection) -> T) -> Option<T> {
        let snapshot = self.0.snapshot();
        snapshot.any_connection().map(|connection| read(connection))
    }
}

debug_fields!(Agent, |self| id: self.id(), endpoint: self.0.endpoint);
