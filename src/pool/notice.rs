//! Notices that agents send on their own.

use super::AgentPool;
use crate::protocol::AgentNotice;
use tokio::sync::broadcast::{Receiver, Sender};

/// Number of notices kept for a slow receiver, which loses the oldest beyond it.
const CAPACITY: usize = 256;

impl AgentPool {
    /// Subscribes to the notices that agents send from now on.
    ///
    /// A receiver that falls behind by more than 256 notices loses the oldest, and its next `recv`
    /// returns how many. Agents and the pool do not wait for receivers.
    ///
    /// ```no_run
    /// # async fn example(pool: tollgate::AgentPool) {
    /// use tollgate::AgentNotice;
    ///
    /// let mut notices = pool.notices();
    /// while let Ok(notice) = notices.recv().await {
    ///     if let AgentNotice::ConfigUpdate { agent_id, request } = notice {
    ///         println!("{agent_id} asks for {:?}", request.update_type);
    ///     }
    /// }
    /// # }
    /// ```
    pub fn notices(&self) -> Receiver<AgentNotice> {
        self.inner.notices.0.subscribe()
    }
}

/// Channel to which the connections of all agents publish notices.
#[derive(Debug)]
pub(super) struct Notices(pub(super) Sender<AgentNotice>);

impl Default for Notices {
    fn default() -> Self {
        Self(Sender::new(CAPACITY))
    }
}
