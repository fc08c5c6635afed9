//! Delivery of config updates that are pushed to agents.

use super::agent::Agent;
use super::call::CallParams;
use super::settings_delivery::config_result;
use super::{AgentPool, Inner};
use crate::clock;
use crate::config_push::{ConfigPusher, Delivery, Next};
use crate::connection::{Connection, TimeLimit};
use crate::error::CallError;
use crate::log::log_line;
use crate::protocol::events::Configure;
use crate::protocol::{ConfigUpdateRequest, ConfigUpdateType, EventType};
use serde_json::{Map, Value};
use std::sync::Arc;
use tokio::time::sleep_until;

/// Reason for which no update is sent to an agent without the extension: it would take the update
/// for its settings.
const NO_EXTENSION: &str =
    "the agent does not speak tollgate's extension; send it whole settings with `configure`";

impl AgentPool {
    /// Returns the pusher, which pushes updates to all agents and keeps track of pushed updates.
    ///
    /// A callback of a [`ConfigUpdateHandler`](crate::config_push::ConfigUpdateHandler) can hold a
    /// clone; a handle of the pool there would keep the pool open forever.
    pub fn config_pusher(&self) -> &Arc<ConfigPusher> {
        &self.inner.pusher
    }
}

impl Agent {
    /// Pushes an update to the agent, and returns the id of the push.
    ///
    /// Maintenance sends it, and retries until the agent answers or the attempts are used up.
    /// Returns `None` if the agent does not accept pushes or too many are pending: see
    /// [`ConfigPusher::push_to_agent`]. An agent without tollgate's extension accepts none, as it
    /// would take an update for its settings.
    ///
    /// A pushed update reaches an agent that is connected or that reconnects in time, but not one
    /// that is started later. For what an agent needs from the start, use [`Agent::configure`].
    pub fn push_config(&self, update_type: ConfigUpdateType) -> Option<String> {
        self.0.pool.pusher.push_to_agent(self.id(), update_type)
    }
}

impl Inner {
    /// Sends an agent's pushes one after another, until there are none.
    pub(super) async fn deliver(self: Arc<Self>, delivery: Delivery) {
        loop {
            match delivery.next() {
                Next::Send(update) => self.push(delivery.agent_id(), update).await,
                Next::Wait(until) => sleep_until(clock::timer(until)).await,
                Next::Nothing => return,
            }
        }
    }

    async fn push(self: &Arc<Self>, agent_id: &str, update: ConfigUpdateRequest) {
        let push_id = update.request_id.clone();
        match self.send_update(agent_id, update).await {
            Ok(Ok(())) => self.pusher.acknowledge(&push_id, true, None),
            Ok(Err(reason)) => {
                log_line!(
                    warn, agent_id, { agent = agent_id, push_id },
                    "an agent rejects an update: {reason}"
                );
                self.pusher.acknowledge(&push_id, false, Some(reason));
            }
            Err(error) => {
                log_line!(
                    debug, agent_id, { agent = agent_id, push_id, error },
                    "an update did not arrive"
                );
                self.pusher.attempt_failed(&push_id);
            }
        }
    }

    /// Sends an update. Returns `Ok(Err(reason))` if the agent rejects it or does not accept
    /// updates.
    async fn send_update(
        self: &Arc<Self>,
        agent_id: &str,
        update: ConfigUpdateRequest,
    ) -> Result<Result<(), String>, CallError> {
        let agent = self.agents.load().get(agent_id).cloned();
        let agent = agent.ok_or_else(|| CallError::Removed {
            agent_id: agent_id.into(),
        })?;
        let snapshot = agent.snapshot_full();
        let would_misread = |connection: &Arc<Connection>| !connection.dialect.has_streams();
        if snapshot.open_connections().any(would_misread) {
            return Ok(Err(NO_EXTENSION.to_owned()));
        }
        // A new id for each attempt, because the answer to the last one may still arrive.
        let id = self.settings.correlation_id();
        let params = CallParams {
            correlation: agent.correlation(&id),
            kind: EventType::Configure,
            limit: TimeLimit::fixed(self.pusher.ack_timeout()),
        };
        let event = Configure {
            correlation_id: &id,
            settings: as_settings(update),
        };
        // On one of the connections that were checked.
        let open = || agent.open_at(&snapshot, params);
        config_result(agent.call_now(params, &event, open).await)
    }
}

/// Returns an update in the form of settings, from which agents of this crate tell it by its
/// `request_id`.
fn as_settings(update: ConfigUpdateRequest) -> Map<String, Value> {
    // Never fails: a plain enum with string keys always has a JSON form.
    let config = serde_json::to_value(&update.update_type).unwrap_or_default();
    Map::from_iter([
        ("config".to_owned(), config),
        ("request_id".to_owned(), update.request_id.into()),
        ("timestamp_ms".to_owned(), update.timestamp_ms.into()),
    ])
}
