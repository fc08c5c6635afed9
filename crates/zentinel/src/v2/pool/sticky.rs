//! Sticky sessions: requests that all go over one connection, as of one WebSocket or one stream of
//! events.

use super::AgentPool;
use super::sessions::Refused;
use crate::v2::send::send_in;
use crate::{AgentProtocolError, AgentResponse, RequestHeadersEvent};
use tollgate::CallError;

impl AgentPool {
    /// Begins a session whose requests all go over one connection to the agent. A session that
    /// exists already is begun again.
    ///
    /// A session ends with [`AgentPool::clear_sticky_session`], when its agent is removed or
    /// replaced, when its connection closes, or when it is not used for
    /// [`sticky_session_timeout`](super::AgentPoolConfig::sticky_session_timeout). Expired sessions
    /// are removed by a task on the runtime where the first session began.
    ///
    /// # Errors
    ///
    /// [`InvalidMessage`](AgentProtocolError::InvalidMessage) if no agent has this name;
    /// [`ConnectionFailed`](AgentProtocolError::ConnectionFailed) and
    /// [`FlowControlPaused`](AgentProtocolError::FlowControlPaused) if no connection takes new
    /// requests, the first also if
    /// [`max_correlation_affinities`](super::AgentPoolConfig::max_correlation_affinities) sessions
    /// exist.
    pub fn create_sticky_session(
        &self,
        session_id: impl Into<String>,
        agent_id: &str,
    ) -> Result<(), AgentProtocolError> {
        let session_id = session_id.into();
        let exchange = self.agent(agent_id)?.exchange(&session_id)?;
        let begun = self.sessions.begin(session_id, exchange);
        let agent_id = agent_id.into();
        begun.map_err(|refused| match refused {
            Refused::NotOpen | Refused::Closed => CallError::Unavailable { agent_id }.into(),
            Refused::Full { limit } => AgentProtocolError::ConnectionFailed(format!(
                "the limit of {limit} sticky sessions is reached"
            )),
        })
    }

    /// Marks a session as used. Returns whether it exists.
    pub fn refresh_sticky_session(&self, session_id: &str) -> bool {
        self.sessions.get(session_id).is_some()
    }

    /// Returns whether a session exists. Calling this counts as a use of the session.
    pub fn has_sticky_session(&self, session_id: &str) -> bool {
        self.sessions.get(session_id).is_some()
    }

    /// Ends a session.
    pub fn clear_sticky_session(&self, session_id: &str) {
        self.sessions.end(session_id);
    }

    /// Returns the number of sessions, including those that have ended by themselves but are not
    /// removed yet.
    pub fn sticky_session_count(&self) -> usize {
        self.sessions.len()
    }

    /// Returns the agent of a session. Calling this counts as a use of the session.
    pub fn sticky_session_agent(&self, session_id: &str) -> Option<String> {
        let exchange = self.sessions.get(session_id)?;
        Some(exchange.agent_id().to_owned())
    }

    /// Removes the sessions that have expired or whose connection has closed, and returns their
    /// number. This is also done at every
    /// [`health_check_interval`](super::AgentPoolConfig::health_check_interval).
    pub fn cleanup_expired_sessions(&self) -> usize {
        self.sessions.remove_ended()
    }

    /// Sends the headers of a request on the connection of a session.
    ///
    /// If the session does not exist or belongs to another agent, any connection is used. The
    /// returned flag is `true` if the session's connection was used. The correlation id is pinned
    /// to the connection, as by [`AgentPool::send_request_headers`].
    ///
    /// # Errors
    ///
    /// As for [`AgentPool::send_request_headers`].
    pub async fn send_request_headers_with_sticky_session(
        &self,
        session_id: &str,
        agent_id: &str,
        correlation_id: &str,
        event: &RequestHeadersEvent,
    ) -> Result<(AgentResponse, bool), AgentProtocolError> {
        let session = self.sessions.get(session_id);
        let Some(exchange) = session.filter(|exchange| exchange.agent_id() == agent_id) else {
            let sent = self.send_request_headers(agent_id, correlation_id, event);
            return Ok((sent.await?, false));
        };
        let response = send_in(&exchange, correlation_id, event).await?;
        Ok((response, true))
    }
}
