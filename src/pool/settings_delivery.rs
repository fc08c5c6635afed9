//! Delivery of an agent's settings on one connection, and the agent's answer to them.

use super::call::{CallParams, Outcome};
use super::member::Member;
use super::settings::Settings;
use crate::connection::{Binding, Connection, TimeLimit};
use crate::error::CallError;
use crate::protocol::events::Configure;
use crate::protocol::{AgentResponse, Decision, EventType};
use crate::wire::SettingsEvent;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

/// Least time that an agent without the extension gets for its settings on a new connection, the
/// same as from a proxy of `zentinel-agent-protocol`.
const MIN_FIRST_SETTINGS_TIMEOUT: Duration = Duration::from_secs(5);

impl Member {
    /// Returns how long the agent may take to accept its settings on a new connection.
    pub(super) fn first_settings_limit(&self, connection: &Connection) -> TimeLimit {
        if connection.dialect.has_streams() {
            return TimeLimit::fixed(self.config.connect_timeout);
        }
        let timeout = self.config.timeout(EventType::Configure);
        TimeLimit::fixed(timeout.max(MIN_FIRST_SETTINGS_TIMEOUT))
    }

    /// Sends settings on a connection and waits until the agent accepts them.
    pub(super) async fn send_settings(
        &self,
        connection: &Arc<Connection>,
        settings: &Settings,
        limit: TimeLimit,
    ) -> Result<(), CallError> {
        let id = self.pool.settings.correlation_id();
        let params = CallParams {
            correlation: self.correlation(&id),
            kind: EventType::Configure,
            limit,
        };
        // Before the event is sent, so that maintenance does not send the settings as well.
        let mut delivery = DeliveryGuard::new(connection, settings);
        let event = SettingsEvent {
            event: Configure {
                correlation_id: &id,
                settings: settings.object().clone(),
            },
            #[cfg(feature = "grpc")]
            is_initial: delivery.before == 0,
        };
        let open = || self.open_on(connection, Binding::Bound, params);
        let result = if connection.dialect.confirms_settings_by_pong() {
            let outcome = self.call_confirmed_by_pong(params, &event, open).await;
            config_result_of_stream(outcome, connection)
        } else {
            config_result(self.call_now(params, &event, open).await)
        };
        match result? {
            Ok(()) => {
                delivery.accepted();
                Ok(())
            }
            Err(reason) => {
                delivery.rejected();
                Err(CallError::SettingsRefused {
                    agent_id: Arc::clone(self.id()),
                    reason,
                })
            }
        }
    }
}

/// Marks a connection while settings are sent on it.
///
/// The number stored in the connection changes as follows:
///
/// * Begin: swapped for the number of the new settings. From then on the connection counts as
///   having them, so that no other task sends them again.
/// * Accepted: the number stays.
/// * Rejected: set back to the number before, because the agent keeps what it had.
/// * Failed, or dropped halfway: set to 0. The agent may or may not have applied the settings, so
///   they count as missing and maintenance sends them again.
///
/// The last two are compare-exchanges from the number of these settings: newer settings that were
/// sent meanwhile have stored another number, which stays. Numbers are never used twice, so a
/// stored number cannot be mistaken. Relaxed suffices because the number guards no other memory;
/// the settings themselves are behind a lock.
struct DeliveryGuard<'a> {
    connection: &'a Connection,
    number: u64,
    before: u64,
    /// Number that is stored if this is dropped.
    fallback: u64,
}

impl<'a> DeliveryGuard<'a> {
    fn new(connection: &'a Connection, settings: &Settings) -> Self {
        let number = settings.number();
        let before = connection.settings.swap(number, Ordering::Relaxed);
        Self {
            connection,
            number,
            before,
            fallback: 0,
        }
    }

    /// Notes that the agent keeps the settings it had.
    fn rejected(&mut self) {
        self.fallback = self.before;
    }

    /// Notes that the agent has the new settings.
    fn accepted(self) {
        // Nothing is restored.
        std::mem::forget(self);
    }
}

impl Drop for DeliveryGuard<'_> {
    fn drop(&mut self) {
        let (number, fallback) = (self.number, self.fallback);
        let current = &self.connection.settings;
        // Fails if newer settings were sent meanwhile, which then stay.
        let _ = current.compare_exchange(number, fallback, Ordering::Relaxed, Ordering::Relaxed);
    }
}

/// Converts an answer to a [`Configure`] event: `Ok(Err(reason))` if the agent rejects it. Only an
/// `allow` accepts it.
pub(super) fn config_result(outcome: Outcome) -> Result<Result<(), String>, CallError> {
    let AgentResponse {
        decision, audit, ..
    } = outcome?;
    Ok(match decision {
        Decision::Allow => Ok(()),
        Decision::Block { body, .. } => Err(body
            .unwrap_or_else(|| format!("no reason given; reason codes {:?}", audit.reason_codes))),
        other => Err(format!(
            "unexpected decision in the answer to configure: {other:?}"
        )),
    })
}

/// Like [`config_result`], for an agent that rejects settings by ending its stream. One that fails
/// at that moment cannot be told from it.
fn config_result_of_stream(
    outcome: Outcome,
    connection: &Connection,
) -> Result<Result<(), String>, CallError> {
    match (&outcome, connection.end_of_receiving.get()) {
        (Err(CallError::ConnectionClosed { .. }), Some(cause)) => {
            Ok(Err(format!("the stream ended: {cause}")))
        }
        _ => config_result(outcome),
    }
}
