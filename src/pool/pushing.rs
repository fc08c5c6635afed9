//! Updates of configuration that are pushed to agents.

use super::ask::Inquiry;
use super::settings::verdict;
use super::{AgentPool, Inner, unknown};
use crate::config_push::{ConfigPusher, Delivery, Next};
use crate::connection::TimeLimit;
use crate::protocol::events::Configure;
use crate::protocol::{ConfigUpdateRequest, ConfigUpdateType, EventType};
use serde_json::{Map, Value};
use std::sync::Arc;
use tokio::time::sleep_until;

impl AgentPool {
    /// Keeps account of pushed updates.
    pub fn config_pusher(&self) -> &ConfigPusher {
        &self.inner.pusher
    }

    /// The same, to be kept: by a callback of a [`ConfigUpdateHandler`](crate::ConfigUpdateHandler), for example, which
    /// would keep a pool alive for ever that it held itself.
    pub fn config_pusher_arc(&self) -> Arc<ConfigPusher> {
        Arc::clone(&self.inner.pusher)
    }

    /// Has upkeep send an update to an agent, again until it answers or the attempts are used up, and returns the id of
    /// the push. `None` if the agent does not take pushes or has too many under way: see
    /// [`ConfigPusher::push_to_agent`].
    ///
    /// A pushed update reaches an agent that is connected or comes back in time; one that is started later does not get
    /// it. What an agent must have from the beginning is for [`AgentPool::configure_agent`].
    pub fn push_config_to_agent(
        &self,
        agent_id: &str,
        update_type: ConfigUpdateType,
    ) -> Option<String> {
        self.inner.pusher.push_to_agent(agent_id, update_type)
    }

    /// The same for every agent that takes pushes. Returns the ids of the pushes.
    pub fn push_config_to_all(&self, update_type: ConfigUpdateType) -> Vec<String> {
        self.inner.pusher.push_to_all(update_type)
    }

    /// Notes an answer to a push that came another way than over the agent's connection.
    pub fn acknowledge_config_push(&self, push_id: &str, accepted: bool, error: Option<String>) {
        self.inner.pusher.acknowledge(push_id, accepted, error);
    }
}

impl Inner {
    /// Sends an agent's pushes one after another, until there are none.
    pub(super) async fn deliver(self: Arc<Self>, delivery: Delivery) {
        loop {
            match delivery.next() {
                Next::Send(update) => self.push(delivery.agent_id(), update).await,
                Next::Wait(until) => sleep_until(until.into()).await,
                Next::Nothing => return,
            }
        }
    }

    async fn push(self: &Arc<Self>, agent_id: &str, update: ConfigUpdateRequest) {
        let push_id = update.request_id.clone();
        let outcome = self.send_update(agent_id, update).await;
        match verdict(outcome) {
            Ok(Ok(())) => self.pusher.acknowledge(&push_id, true, None),
            Ok(Err(reason)) => {
                tracing::warn!(
                    agent = agent_id,
                    push_id,
                    "an agent refuses an update: {reason}"
                );
                self.pusher.acknowledge(&push_id, false, Some(reason));
            }
            Err(error) => {
                tracing::debug!(agent = agent_id, push_id, %error, "an update did not arrive");
                self.pusher.attempt_failed(&push_id);
            }
        }
    }

    async fn send_update(
        self: &Arc<Self>,
        agent_id: &str,
        update: ConfigUpdateRequest,
    ) -> super::ask::Outcome {
        let agent = self.agents.load().get(agent_id).cloned();
        let agent = agent.ok_or_else(|| unknown(agent_id))?;
        // Another one with each attempt, since an answer to the last may be missing.
        let id = self.settings.correlation_id();
        let inquiry = Inquiry {
            correlation_id: &id,
            kind: EventType::Configure,
            limit: TimeLimit::firm(self.pusher.ack_timeout()),
        };
        let event = Configure {
            correlation_id: &id,
            settings: as_settings(update),
        };
        let open = || self.attempt(agent_id, inquiry);
        self.ask_strictly(&agent.record, inquiry, &event, open)
            .await
    }
}

/// Every agent reads `config` and `config_version`; ours read the rest too.
fn as_settings(update: ConfigUpdateRequest) -> Map<String, Value> {
    // A plain enum with string keys always has a JSON form.
    let config = serde_json::to_value(&update.update_type).unwrap_or_default();
    Map::from_iter([
        ("config".to_owned(), config),
        ("request_id".to_owned(), update.request_id.into()),
        ("timestamp_ms".to_owned(), update.timestamp_ms.into()),
    ])
}
