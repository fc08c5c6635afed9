//! Notices that agents send on their own.

use super::AgentPool;
use super::agent::Agent;
use super::agent_state::HeldNotice;
use crate::protocol::AgentNotice;
use std::sync::Arc;
use tokio::sync::broadcast::error::RecvError;
use tokio::sync::broadcast::{Receiver, Sender};

/// Number of notices kept for a slow receiver, which loses the oldest beyond it.
const CAPACITY: usize = 256;

/// Receives the notices of one agent, or of all agents of a pool.
///
/// A receiver that falls behind by more than 256 notices of the pool loses the oldest. Agents and
/// the pool do not wait for receivers.
///
/// ```no_run
/// # async fn example(pool: tollgate::AgentPool) {
/// use tollgate::control::AgentNotice;
///
/// let mut notices = pool.notices();
/// while let Ok(notice) = notices.recv().await {
///     if let AgentNotice::ConfigUpdate { agent_id, request } = notice {
///         println!("{agent_id} asks for {:?}", request.update_type);
///     }
/// }
/// # }
/// ```
#[derive(Debug)]
pub struct Notices {
    receiver: Receiver<HeldNotice>,
    /// The only agent whose notices are received; `None` for all.
    agent: Option<Arc<str>>,
}

/// Reason why no notice was received.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum NoticeError {
    /// The receiver fell behind, and this many notices of the pool are lost. The next call returns
    /// the oldest that is kept.
    #[error("the receiver fell behind: {0} notices are lost")]
    Missed(u64),
    /// The pool and the handles of its agents were dropped.
    #[error("the pool was dropped")]
    Closed,
}

impl Notices {
    /// Waits for the next notice.
    ///
    /// This method is cancel safe: dropping the future loses no notice.
    ///
    /// # Errors
    ///
    /// See [`NoticeError`].
    pub async fn recv(&mut self) -> Result<AgentNotice, NoticeError> {
        loop {
            let held = self.receiver.recv().await.map_err(|error| match error {
                RecvError::Lagged(missed) => NoticeError::Missed(missed),
                RecvError::Closed => NoticeError::Closed,
            })?;
            let notice = held.notice;
            let is_wanted = |agent: &Arc<str>| **agent == *notice.agent_id();
            if self.agent.as_ref().is_none_or(is_wanted) {
                return Ok(notice);
            }
        }
    }
}

impl AgentPool {
    /// Subscribes to the notices that agents send from now on.
    pub fn notices(&self) -> Notices {
        Notices {
            receiver: self.inner.notices.0.subscribe(),
            agent: None,
        }
    }
}

impl Agent {
    /// Subscribes to the notices that this agent sends from now on.
    pub fn notices(&self) -> Notices {
        Notices {
            receiver: self.0.pool.notices.0.subscribe(),
            agent: Some(Arc::clone(self.0.id())),
        }
    }
}

/// Channel to which the connections of all agents publish notices.
#[derive(Debug)]
pub(super) struct NoticeChannel(pub(super) Sender<HeldNotice>);

impl Default for NoticeChannel {
    fn default() -> Self {
        Self(Sender::new(CAPACITY))
    }
}
