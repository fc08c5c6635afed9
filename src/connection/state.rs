//! State of a connection, as callers and the pool read it.

use super::{
    AdmissionQueues, CallEnd, Connection, ConnectionHealth, Correlation, Origin, RuntimeId,
    SharedState,
};
use crate::clock;
use crate::protocol::AgentCapabilities;
use crate::wire::Dialect;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Time for which a connection whose calls fail is still used if there is no better one, in ticks.
/// The agent is pinged at once, and one that is alive answers within it.
const PING_GRACE_TICKS: u64 = 50;

impl Connection {
    pub(crate) fn capabilities(&self) -> &AgentCapabilities {
        &self.capabilities
    }

    /// Returns the number of the settings that the agent was given on this connection, or is being
    /// given; 0 for none.
    pub(crate) fn settings(&self) -> &AtomicU64 {
        &self.settings
    }

    /// Returns why the agent's side of the link ended, if it did and that rejects settings.
    pub(crate) fn end_of_receiving(&self) -> Option<&str> {
        self.end_of_receiving.get().map(String::as_str)
    }

    pub(crate) fn dialect(&self) -> Dialect {
        self.dialect
    }

    /// Returns the side that opened the connection.
    pub(crate) fn origin(&self) -> Origin {
        self.origin
    }

    /// Returns the runtime of the connection's tasks.
    pub(crate) fn runtime(&self) -> Option<RuntimeId> {
        self.runtime
    }

    /// Returns the state shared by all connections to the agent.
    pub(crate) fn agent(&self) -> &Arc<SharedState> {
        &self.agent
    }

    /// Returns the health of the agent as seen on this connection.
    pub(crate) fn health(&self) -> &ConnectionHealth {
        &self.health
    }

    /// Returns the queues of calls that are bound to this connection.
    pub(crate) fn queues(&self) -> &AdmissionQueues {
        &self.queues
    }

    /// Returns the number of calls waiting for an answer.
    pub(crate) fn in_flight(&self) -> usize {
        self.slots.pending()
    }

    /// Returns whether a call can take a slot now, without overtaking a waiting call.
    pub(crate) fn has_free_slot(&self) -> bool {
        !self.slots.is_full() && self.queues.free_slot.waiting() == 0
    }

    /// Returns whether calls should share one connection: see [`LinkSender::prefers_batching`].
    pub(crate) fn prefers_batching(&self) -> bool {
        self.sender.prefers_batching()
    }

    /// Returns whether the writer task is about to send a batch that one more frame can join at
    /// almost no cost.
    ///
    /// `false` while at most one call is pending: then a call that has another connection to itself
    /// is answered sooner.
    pub(crate) fn is_batching(&self) -> bool {
        self.send_queue.is_batching() && self.slots.has_several()
    }

    pub(crate) fn is_open(&self) -> bool {
        !self.is_closed.load(Ordering::Acquire)
    }

    /// Returns whether the connection takes new exchanges and did not fail too many calls in a row.
    /// The agent's circuit breaker is not considered.
    pub(crate) fn is_healthy(&self) -> bool {
        self.takes_exchanges() && !self.health.is_failing()
    }

    /// Returns whether the connection takes new exchanges if there is no better one: its calls may
    /// fail, but the agent may still answer the ping that asks whether it is alive.
    pub(crate) fn is_last_resort(&self) -> bool {
        self.takes_exchanges()
            && (!self.health.is_failing()
                || self.ticks(clock::now()) < self.health.failing_since() + PING_GRACE_TICKS)
    }

    /// Returns whether the connection takes new exchanges, although its calls may be failing.
    fn takes_exchanges(&self) -> bool {
        self.is_open()
            && self.health.is_available()
            && !self.is_retired()
            && !self.is_configuring.load(Ordering::Relaxed)
    }

    /// Ends a row of failures, because the agent answered a ping, or a call too late. Calls that
    /// wait may take the connection now. An answer in time needs no more than the slot that it
    /// frees, which wakes them as well.
    pub(crate) fn recover(&self) {
        self.health.succeeded();
        self.agent.queues.wake();
    }

    /// Drops the agent's health report if it has expired. Calls that wait may take the connection
    /// then.
    pub(crate) fn forget_stale_report(&self, now_ms: u64) {
        if self.health.forget_stale_report(now_ms) {
            self.agent.queues.wake();
        }
    }

    /// Returns whether a call of this exchange can be opened: no earlier answer to the exchange is
    /// missing that could be taken for the new one.
    pub(crate) fn is_free_for(&self, correlation: Correlation<'_>) -> bool {
        !self.expected_late_answers.contains(correlation.key)
            && self.slots.accepts_key(correlation.key)
    }

    /// Returns whether the agent has paused the whole connection.
    pub(crate) fn is_paused(&self) -> bool {
        self.flow.is_paused()
    }

    /// Returns the fill level of the send queue, 0.0 to 1.0.
    pub(crate) fn ring_utilization(&self) -> f64 {
        self.send_queue.utilization()
    }

    /// Checks that the agent has paused neither the connection nor this exchange.
    pub(crate) fn check_flow(&self, correlation: Correlation<'_>) -> Result<(), CallEnd> {
        self.flow.check(correlation.key)
    }

    /// Returns whether a call of this exchange is pending.
    pub(crate) fn is_busy_with(&self, correlation_id: &str) -> bool {
        self.slots.contains(self.agent.keys.key(correlation_id))
    }

    /// Returns the time since the last call, or the age of the connection if there was none.
    pub(crate) fn idle_time(&self) -> Duration {
        self.time_since(&self.last_used)
    }

    /// Returns the time since bytes were last received, or the age of the connection if there were
    /// none since the handshake.
    pub(crate) fn silence(&self) -> Duration {
        self.time_since(&self.last_received)
    }

    /// Returns the time since the handshake.
    pub(crate) fn age(&self) -> Duration {
        clock::elapsed(self.epoch)
    }

    /// Returns whether the agent has sent anything since the handshake.
    pub(crate) fn has_received(&self) -> bool {
        self.last_received.load(Ordering::Relaxed) != 0
    }

    fn time_since(&self, ticks: &AtomicU64) -> Duration {
        let at = Duration::from_millis(ticks.load(Ordering::Relaxed));
        clock::elapsed(self.epoch).saturating_sub(at)
    }
}
