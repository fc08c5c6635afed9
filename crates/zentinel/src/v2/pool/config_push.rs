//! Config updates that are pushed to agents, and those that agents ask for.

use super::AgentPool;
use crate::v2::{ConfigPusher, ConfigUpdateHandler, ConfigUpdateType};
use std::sync::Arc;

impl AgentPool {
    /// Returns the pusher, which keeps track of pushed updates.
    pub fn config_pusher(&self) -> &ConfigPusher {
        self.pool.config_pusher()
    }

    /// Like [`AgentPool::config_pusher`], but returns a shared reference that can be stored.
    ///
    /// A callback of a [`ConfigUpdateHandler`] can hold it; a handle of the pool there would keep
    /// the pool open forever.
    pub fn config_pusher_arc(&self) -> Arc<ConfigPusher> {
        Arc::clone(self.pool.config_pusher())
    }

    /// Pushes an update to an agent, and returns the id of the push.
    ///
    /// Maintenance sends it, and retries until the agent answers or the attempts are used up.
    /// Returns `None` if the agent does not accept pushes or too many are pending: see
    /// [`ConfigPusher::push_to_agent`].
    pub fn push_config_to_agent(
        &self,
        agent_id: &str,
        update_type: ConfigUpdateType,
    ) -> Option<String> {
        self.config_pusher().push_to_agent(agent_id, update_type)
    }

    /// Pushes an update to every agent that accepts pushes. Returns the ids of the pushes.
    pub fn push_config_to_all(&self, update_type: ConfigUpdateType) -> Vec<String> {
        self.config_pusher().push_to_all(update_type)
    }

    /// Records an answer to a push that arrived by other means than the agent's connection.
    pub fn acknowledge_config_push(&self, push_id: &str, accepted: bool, error: Option<String>) {
        self.config_pusher().acknowledge(push_id, accepted, error);
    }

    /// Returns the handler for agents' config update requests that the pool was made with.
    /// [`tollgate::AgentPool::set_config_update_handler`] sets another.
    pub fn config_update_handler(&self) -> &ConfigUpdateHandler {
        &self.updates
    }
}
