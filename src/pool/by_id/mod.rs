//! Calls of exchanges that are known only by their correlation id.
//!
//! The event that begins an exchange pins its correlation id to a connection, and the events that
//! follow go over that connection: see [`Affinities`].

mod affinity;
mod expiring;

pub(super) use affinity::Affinities;

use super::AgentPool;
use super::agent::Agent;
use super::call::{CallParams, CallResult, NoAnswer};
use super::exchange::Exchange;
use super::member::Member;
use super::send::{Answered, Call, CallOptions, StartCall};
use super::trace::traced;
use crate::connection::Connection;
use crate::protocol::EventType;
use crate::wire::Event;
use std::sync::Arc;

impl Agent {
    /// Sends any event, owned or borrowed, of an exchange that is known by its correlation id.
    ///
    /// For proxies that can keep an [`Exchange`](super::Exchange) for the duration of an HTTP
    /// request, [`Agent::exchange`] is better: it needs neither a pin nor a look-up.
    ///
    /// `correlation_id` joins the events of one HTTP request and replaces the event's own. If the
    /// agent can match answers only by correlation id, at most one event of an exchange can be
    /// unanswered at a time.
    ///
    /// # Pinned exchanges
    ///
    /// Request headers pin their correlation id to a connection: the events that follow under the
    /// same id go over that connection. A pin costs about one allocation and an entry in a map of
    /// at most [`max_correlation_affinities`](super::AgentPoolConfig::max_correlation_affinities)
    /// entries. It is kept until [`RequestComplete`](crate::RequestComplete) is sent, or
    /// [`AgentPool::unpin`] is called, or
    /// [`correlation_affinity_ttl`](super::AgentPoolConfig::correlation_affinity_ttl) (5 minutes by
    /// default) passes without an event. So do one of the first two at the end of every request.
    /// While the map is full, further exchanges are not pinned, and their events may go to any
    /// connection.
    ///
    /// # Errors
    ///
    /// * [`Removed`](crate::CallError::Removed),
    ///   [`Replaced`](crate::CallError::Replaced) and
    ///   [`PoolDropped`](crate::CallError::PoolDropped) if the handle is outdated;
    /// * [`Unavailable`](crate::CallError::Unavailable) and
    ///   [`CircuitOpen`](crate::CallError::CircuitOpen) before anything is sent;
    /// * [`QueueFull`](crate::CallError::QueueFull) and
    ///   [`QueueTimeout`](crate::CallError::QueueTimeout) if no slot is free;
    /// * [`FlowControlPaused`](crate::CallError::FlowControlPaused) if the agent paused
    ///   every connection that could be used (see [`FlowControlMode`](super::FlowControlMode));
    /// * [`CorrelationBusy`](crate::CallError::CorrelationBusy) if an earlier event of the
    ///   exchange is unanswered on every connection that could be used;
    /// * [`MessageTooLarge`](crate::CallError::MessageTooLarge) if the event does not fit
    ///   into a frame, or its body is larger than the agent accepts;
    /// * [`Timeout`](crate::CallError::Timeout) after
    ///   [`AgentConfig::timeout`](super::AgentConfig::timeout) or the timeout for this kind of
    ///   event;
    /// * [`ConnectionClosed`](crate::CallError::ConnectionClosed) at once when the
    ///   connection closes, and for every later event of an exchange that was pinned to it;
    /// * [`InvalidMessage`](crate::CallError::InvalidMessage) if the answer cannot be
    ///   decoded;
    /// * [`Cancelled`](crate::CallError::Cancelled) by [`Agent::cancel`].
    pub fn send<'a, E: Event>(
        &'a self,
        correlation_id: &'a str,
        event: &'a E,
    ) -> Call<impl StartCall<Future: Send> + use<'a, E>> {
        send_by_id(&self.0, None, correlation_id, event)
    }
}

impl Exchange {
    /// Like [`Agent::send`], on the connection of this exchange: request headers pin their
    /// correlation id to it. If the exchange has none ([`Exchange::is_open`]), any connection is
    /// used.
    ///
    /// For sessions of several HTTP requests that all go over one connection.
    ///
    /// # Errors
    ///
    /// As for [`Agent::send`].
    pub fn send_by_id<'a, E: Event>(
        &'a self,
        correlation_id: &'a str,
        event: &'a E,
    ) -> Call<impl StartCall<Future: Send> + use<'a, E>> {
        let (agent, connection) = self.parts();
        send_by_id(agent, connection, correlation_id, event)
    }
}

/// Sends an event by its correlation id. The first event of an exchange goes over `first` if that
/// is given.
fn send_by_id<'a, E: Event>(
    agent: &'a Arc<Member>,
    first: Option<&'a Arc<Connection>>,
    correlation_id: &'a str,
    event: &'a E,
) -> Call<impl StartCall<Future: Send> + use<'a, E>> {
    Call::new(move |options: CallOptions| async move {
        let params = CallParams {
            correlation: agent.correlation(correlation_id),
            kind: E::EVENT_TYPE,
            limit: options.limit(agent.config.timeout(E::EVENT_TYPE)),
        };
        Answered(traced!(
            agent.id(),
            params,
            event,
            agent.send_by_id(first, params, event)
        ))
    })
}

impl AgentPool {
    /// Unpins a correlation id from all agents: see [`Agent::send`].
    pub fn unpin(&self, correlation_id: &str) {
        self.inner.affinities.unpin_all(correlation_id);
    }

    /// Unpins correlation ids for which no event came for
    /// [`correlation_affinity_ttl`](super::AgentPoolConfig::correlation_affinity_ttl), and returns
    /// their number. Maintenance does this by itself.
    pub fn unpin_expired(&self) -> usize {
        self.inner.affinities.remove_expired()
    }
}

impl Member {
    /// Sends an event on the connection that its correlation id is pinned to, or on any.
    ///
    /// The kind of the event decides whether it pins the exchange, follows the pin, or needs none.
    async fn send_by_id<E: Event>(
        self: &Arc<Self>,
        first: Option<&Arc<Connection>>,
        params: CallParams<'_>,
        event: &E,
    ) -> CallResult {
        let id = params.correlation.id;
        match params.kind {
            EventType::RequestHeaders => {
                let call = self.open(first, params).await?;
                // The pin is made before the event is sent, so that events which the caller sends
                // concurrently follow it.
                let pin = PinGuard::new(&self.pool.affinities, id, call.connection());
                let answered = self.complete(Ok(call), id, event).await;
                if !matches!(answered, Err(NoAnswer::Failed(_))) {
                    pin.keep();
                }
                answered
            }
            EventType::GuardrailInspect | EventType::Configure => {
                let opened = self.open(None, params).await;
                self.complete(opened, id, event).await
            }
            kind => {
                let pinned = self.pool.affinities.pinned(id, self.id());
                let opened = self.open(pinned.as_ref(), params).await;
                let answered = self.complete(opened, id, event).await;
                if pinned.is_some() && kind == EventType::RequestComplete {
                    self.pool.affinities.unpin(id, self.id());
                }
                answered
            }
        }
    }
}

/// A new pin, which is removed again unless the first event of the exchange succeeds.
struct PinGuard<'a> {
    affinities: &'a Affinities,
    correlation_id: &'a str,
    agent_id: Arc<str>,
    is_kept: bool,
}

impl<'a> PinGuard<'a> {
    fn new(
        affinities: &'a Affinities,
        correlation_id: &'a str,
        connection: &Arc<Connection>,
    ) -> Self {
        affinities.pin(correlation_id, connection);
        Self {
            affinities,
            correlation_id,
            agent_id: Arc::clone(&connection.agent.id),
            is_kept: false,
        }
    }

    fn keep(mut self) {
        self.is_kept = true;
    }
}

impl Drop for PinGuard<'_> {
    fn drop(&mut self) {
        if !self.is_kept {
            self.affinities.unpin(self.correlation_id, &self.agent_id);
        }
    }
}
