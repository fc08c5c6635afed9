use super::AgentPool;
use crate::protocol::AgentNotice;
use tokio::sync::broadcast::{Receiver, Sender};

/// Notices that wait for a slow listener; of more, the oldest are lost to it.
const CAPACITY: usize = 256;

impl AgentPool {
    /// Listens to what agents say unasked from now on.
    ///
    /// A listener that falls behind by more than 256 notices loses the oldest, and its next `recv` says how
    /// many. Nobody waits for listeners.
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

/// Where the connections of all agents say what they are told.
#[derive(Debug)]
pub(super) struct Notices(pub(super) Sender<AgentNotice>);

impl Default for Notices {
    fn default() -> Self {
        Self(Sender::new(CAPACITY))
    }
}
