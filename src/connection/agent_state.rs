//! State that belongs to an agent rather than to one of its connections.

use super::Stopwatch;
use super::admission_queues::AdmissionQueues;
use super::breaker::{CircuitBreaker, CircuitBreakerSettings};
use super::config_requests::UpdateQueue;
use super::expiring_keys::IdHasher;
use super::logs::AgentLog;
use crate::config_push::ConfigUpdateHandler;
use crate::metrics::{CallTally, FaultCounters, MetricsCollector, StageTally};
use crate::protocol::{AgentNotice, LogMessage, MetricsReport};
use arc_swap::ArcSwap;
use crossbeam_queue::ArrayQueue;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64};
use tokio::sync::{Notify, broadcast};

/// State shared by all connections to one agent. Lives as long as the pool knows the agent.
#[derive(Debug)]
pub(crate) struct AgentState {
    pub(crate) id: Arc<str>,
    pub(crate) faults: FaultCounters,
    pub(crate) calls: CallTally,
    pub(crate) stages: StageTally,
    /// Stopwatches kept for the next timed calls, so that those allocate none.
    stopwatches: ArrayQueue<Stopwatch>,
    pub(crate) breaker: CircuitBreaker,
    /// Calls that may use any connection, waiting for one.
    pub(crate) queues: AdmissionQueues,
    /// Hashes the correlation ids of this agent's exchanges.
    pub(super) keys: IdHasher,
    pub(super) sinks: AgentEventSinks,
    /// Notified to run the pool's maintenance.
    maintenance: Arc<Notify>,
    pub(crate) counters: AgentCounters,
    /// Config update requests of the agent that wait for the handler.
    pub(super) updates: UpdateQueue,
    /// Writes the agent's log messages to the proxy's log.
    pub(crate) log: AgentLog,
    /// Set if a connection may have other settings than the agent should have; cleared by
    /// maintenance.
    pub(crate) settings_resend_requested: AtomicBool,
    /// Set when the agent has requested its settings again; cleared by maintenance.
    pub(crate) reload_requested: AtomicBool,
}

/// Maximum number of stopwatches that are kept; more concurrently timed calls allocate theirs.
const MAX_STOPWATCHES: usize = 16;

/// Receivers of messages that agents send on their own.
#[derive(Debug, Clone)]
pub(crate) struct AgentEventSinks {
    pub(crate) notices: broadcast::Sender<AgentNotice>,
    pub(crate) reported: Arc<MetricsCollector>,
    pub(crate) updates: Arc<ArcSwap<ConfigUpdateHandler>>,
}

/// Counters of one agent, except for those of how its calls ended.
#[derive(Debug, Default)]
pub(crate) struct AgentCounters {
    pub(crate) failed_open: AtomicU64,
    pub(crate) allowed_while_paused: AtomicU64,
    pub(crate) exchanges_cancelled: AtomicU64,
    pub(crate) reconnects: AtomicU64,
    pub(crate) pauses: AtomicU64,
    pub(crate) resumes: AtomicU64,
    pub(crate) updates_accepted: AtomicU64,
    pub(crate) updates_rejected: AtomicU64,
}

impl AgentState {
    pub(crate) fn new(
        id: String,
        breaker: CircuitBreakerSettings,
        sinks: AgentEventSinks,
        max_logged_per_second: u32,
        maintenance: Arc<Notify>,
    ) -> Self {
        Self {
            id: id.into(),
            faults: FaultCounters::default(),
            calls: CallTally::default(),
            stages: StageTally::default(),
            stopwatches: ArrayQueue::new(MAX_STOPWATCHES),
            breaker: CircuitBreaker::new(breaker),
            queues: AdmissionQueues::default(),
            keys: IdHasher::default(),
            sinks,
            maintenance,
            counters: AgentCounters::default(),
            updates: UpdateQueue::default(),
            log: AgentLog::new(max_logged_per_second),
            settings_resend_requested: AtomicBool::new(false),
            reload_requested: AtomicBool::new(false),
        }
    }

    /// Wakes the pool's maintenance.
    pub(crate) fn request_maintenance(&self) {
        self.maintenance.notify_one();
    }

    /// Returns a stopwatch for a call, a used one if there is one.
    pub(super) fn stopwatch(&self) -> Stopwatch {
        self.stopwatches.pop().unwrap_or_else(Stopwatch::new)
    }

    /// Keeps a stopwatch for another call.
    pub(super) fn recycle_stopwatch(&self, watch: Stopwatch) {
        if let Some(watch) = watch.reset() {
            // Dropped if enough are kept.
            let _ = self.stopwatches.push(watch);
        }
    }

    /// Publishes a notice of the agent, if there are subscribers.
    pub(super) fn notify(&self, notice: impl FnOnce(Arc<str>) -> AgentNotice) {
        let notices = &self.sinks.notices;
        if notices.receiver_count() > 0 {
            // Fails if the last subscriber has gone since the check, which does not matter.
            let _ = notices.send(notice(Arc::clone(&self.id)));
        }
    }

    /// Records the agent's metrics report under the id by which the pool knows the agent.
    pub(super) fn record_report(&self, report: MetricsReport) {
        self.sinks.reported.record_from(&self.id, &report);
        self.notify(|agent_id| AgentNotice::Metrics { agent_id, report });
    }

    /// Logs a message of the agent and publishes it, unless it exceeds the log limit.
    pub(super) fn log_message(&self, message: LogMessage) {
        if self.log.write(&self.id, &message) {
            self.notify(|agent_id| AgentNotice::Log { agent_id, message });
        }
    }

    /// Returns the correlation of an exchange with this agent.
    pub(crate) fn correlation<'a>(&self, id: &'a str) -> Correlation<'a> {
        Correlation {
            id,
            key: self.keys.key(id),
        }
    }
}

/// Identity of an exchange: its correlation id and a hash of that.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Correlation<'a> {
    pub(crate) id: &'a str,
    /// Hash of `id`, with a seed of the agent: the same on all its connections, but different for
    /// other agents.
    pub(crate) key: u64,
}
