//! Sessions that keep to one connection for longer than a request: websockets, event streams, long polls.

use super::ask::{Inquiry, outcome_of};
use super::expiring::{ExpiringMap, Full};
use super::trace::traced;
use super::{AgentPool, unknown};
use crate::connection::{Connection, Refusal, TimeLimit};
use crate::error::AgentProtocolError;
use crate::protocol::events::RequestHeadersEvent;
use crate::protocol::{AgentResponse, EventType};
use std::sync::Arc;

/// What a session keeps to.
#[derive(Debug, Clone)]
pub(super) struct Session {
    agent_id: Arc<str>,
    connection: Arc<Connection>,
}

pub(super) type Sessions = ExpiringMap<Session>;

impl AgentPool {
    /// Begins a session, or begins it anew: its requests keep to one connection to the agent.
    ///
    /// It ends with [`AgentPool::clear_sticky_session`], with its connection, or when it is not used for
    /// [`sticky_session_timeout`](super::AgentPoolConfig::sticky_session_timeout).
    ///
    /// # Errors
    ///
    /// [`UnknownAgent`](AgentProtocolError::UnknownAgent),
    /// [`Unavailable`](AgentProtocolError::Unavailable), and
    /// [`TooManySessions`](AgentProtocolError::TooManySessions) if
    /// [`max_correlation_affinities`](super::AgentPoolConfig::max_correlation_affinities) sessions exist.
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
        let connection = chosen.map_err(|_: Refusal| AgentProtocolError::Unavailable {
            agent_id: agent_id(),
        })?;
        let session = Session {
            agent_id: agent_id(),
            connection: Arc::clone(connection),
        };
        let sessions = &self.inner.sessions;
        sessions
            .change(&session_id, |_| Some(session.clone()))
            .map_err(|Full| AgentProtocolError::TooManySessions {
                agent_id: agent_id(),
                limit: sessions.max(),
            })
    }

    /// Notes that a session is in use. Returns whether there is such a session.
    pub fn refresh_sticky_session(&self, session_id: &str) -> bool {
        self.session_connection(session_id).is_some()
    }

    /// Whether there is such a session. Asking counts as using it.
    pub fn has_sticky_session(&self, session_id: &str) -> bool {
        self.session_connection(session_id).is_some()
    }

    /// Ends a session.
    pub fn clear_sticky_session(&self, session_id: &str) {
        self.inner.sessions.remove(session_id);
    }

    /// Sessions that are not cleared and not found to have expired.
    pub fn sticky_session_count(&self) -> usize {
        self.inner.sessions.len()
    }

    /// The agent that a session keeps to.
    pub fn sticky_session_agent(&self, session_id: &str) -> Option<String> {
        self.inner
            .sessions
            .get(session_id, |session| session.agent_id.to_string())
    }

    /// Removes sessions that have expired. Returns how many there were. Upkeep does this too.
    pub fn cleanup_expired_sessions(&self) -> usize {
        self.inner.sessions.remove_outdated()
    }

    /// Puts the head of a request to an agent on the connection of a session, and says whether that was used:
    /// where there is no such session with this agent, any connection is taken. The events that follow under the same correlation id
    /// take the same connection.
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
        let connection = self
            .session_connection(session_id)
            .filter(|connection| *connection.agent().id == *agent_id);
        let Some(connection) = connection else {
            let response = self.send(agent_id, correlation_id, event).await?;
            return Ok((response, false));
        };
        let kind = EventType::RequestHeaders;
        let inquiry = Inquiry {
            correlation_id,
            kind,
            limit: TimeLimit::configured(self.inner.config.timeout(kind)),
        };
        let pool = &self.inner;
        let answered = traced!(
            agent_id,
            inquiry,
            event,
            pool.ask_first_on(&connection, inquiry, event)
        );
        Ok((outcome_of(answered)?, true))
    }

    /// A session whose connection has ended is over.
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
