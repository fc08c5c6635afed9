//! Sticky sessions: several requests on one connection, for WebSockets, event streams and long
//! polls.

use super::call::{CallParams, take_answer};
use super::expiring::{ExpiringMap, Full};
use super::trace::traced;
use super::{AgentPool, unknown};
use crate::connection::{Connection, ExchangeGuard, NotOpened, TimeLimit};
use crate::error::AgentProtocolError;
use crate::protocol::events::RequestHeadersEvent;
use crate::protocol::{AgentResponse, EventType};
use std::sync::Arc;

/// Agent and connection of a session.
#[derive(Debug, Clone)]
pub(super) struct Session {
    agent_id: Arc<str>,
    connection: Arc<Connection>,
}

pub(super) type Sessions = ExpiringMap<Session>;

impl AgentPool {
    /// Begins a session whose requests all go over one connection to the agent. A session that
    /// exists already is begun again.
    ///
    /// A session ends with [`AgentPool::clear_sticky_session`], when its connection closes, or when
    /// it is not used for
    /// [`sticky_session_timeout`](super::AgentPoolConfig::sticky_session_timeout).
    ///
    /// # Errors
    ///
    /// [`UnknownAgent`](AgentProtocolError::UnknownAgent),
    /// [`Unavailable`](AgentProtocolError::Unavailable), and
    /// [`TooManySessions`](AgentProtocolError::TooManySessions) if
    /// [`max_correlation_affinities`](super::AgentPoolConfig::max_correlation_affinities) sessions
    /// exist.
    pub fn create_sticky_session(
        &self,
        session_id: impl Into<String>,
        agent_id: &str,
    ) -> Result<(), AgentProtocolError> {
        let session_id = session_id.into();
        let agents = self.inner.agents.load();
        let agent = agents.get(agent_id).ok_or_else(|| unknown(agent_id))?;
        let chosen = self
            .inner
            .choose(agent, agent.correlation(&session_id))
            .or_else(|_| self.inner.choose_paused(agent));
        let agent_id = || Arc::clone(agent.id());
        let connection = chosen.map_err(|_: NotOpened| AgentProtocolError::Unavailable {
            agent_id: agent_id(),
        })?;
        let session = Session {
            agent_id: agent_id(),
            connection: Arc::clone(connection),
        };
        let sessions = &self.inner.sessions;
        sessions
            .change(&session_id, |_| Some(session.clone()), |_| ())
            .map_err(|Full| AgentProtocolError::TooManySessions {
                agent_id: agent_id(),
                limit: sessions.max(),
            })
    }

    /// Marks a session as used. Returns whether it exists.
    pub fn refresh_sticky_session(&self, session_id: &str) -> bool {
        self.session_connection(session_id).is_some()
    }

    /// Returns whether a session exists. Calling this counts as a use of the session.
    pub fn has_sticky_session(&self, session_id: &str) -> bool {
        self.session_connection(session_id).is_some()
    }

    /// Ends a session.
    pub fn clear_sticky_session(&self, session_id: &str) {
        self.inner.sessions.remove(session_id);
    }

    /// Returns the number of sessions, including those that have expired but are not removed yet.
    pub fn sticky_session_count(&self) -> usize {
        self.inner.sessions.len()
    }

    /// Returns the agent of a session.
    pub fn sticky_session_agent(&self, session_id: &str) -> Option<String> {
        self.inner
            .sessions
            .get(session_id, |session| session.agent_id.to_string())
    }

    /// Removes expired sessions and returns their number. Maintenance does this too.
    pub fn cleanup_expired_sessions(&self) -> usize {
        self.inner.sessions.remove_expired()
    }

    /// Sends the headers of a request on the connection of a session.
    ///
    /// If the session does not exist, belongs to another agent, or has a connection that is being
    /// drained, any connection is used. The returned flag is `true` if the session's connection was
    /// used. The correlation id is pinned to the connection, as by [`AgentPool::send`].
    ///
    /// # Errors
    ///
    /// As for [`AgentPool::send`].
    pub async fn send_request_headers_with_sticky_session(
        &self,
        session_id: &str,
        agent_id: &str,
        correlation_id: &str,
        event: &RequestHeadersEvent,
    ) -> Result<(AgentResponse, bool), AgentProtocolError> {
        // In use like that of an exchange, so that a drain also waits for a call without a slot.
        let connection = self
            .session_connection(session_id)
            .filter(|connection| *connection.agent().id == *agent_id)
            .and_then(|connection| ExchangeGuard::of(&connection));
        let Some(connection) = connection else {
            let response = self.send(agent_id, correlation_id, event).await?;
            return Ok((response, false));
        };
        let kind = EventType::RequestHeaders;
        let params = CallParams {
            correlation_id,
            kind,
            limit: TimeLimit::configured(self.inner.config.timeout(kind)),
        };
        let pool = &self.inner;
        let answered = traced!(
            agent_id,
            params,
            event,
            pool.send_first_on(&connection, params, event)
        );
        Ok((take_answer(answered)?, true))
    }

    /// Returns the connection of a session. Ends the session if its connection has closed.
    fn session_connection(&self, session_id: &str) -> Option<Arc<Connection>> {
        let connection = self
            .inner
            .sessions
            .get(session_id, |session| Arc::clone(&session.connection))?;
        if connection.is_open() {
            return Some(connection);
        }
        self.inner.sessions.remove(session_id);
        None
    }
}
