//! State of an agent, apart from its connections, and what the agent reports on its own.

use super::agent_config::ResolvedConfig;
use super::config_requests::ConfigRequests;
use crate::config_push::ConfigUpdateHandler;
use crate::connection::{AgentEvent, Connection, Inbound, SharedState};
use crate::log::AgentLog;
use crate::memory::{MemoryBudget, MemoryCharge};
use crate::metrics::{Fault, MetricsCollector};
use crate::protocol::AgentNotice;
use arc_swap::ArcSwap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64};
use tokio::sync::{Notify, broadcast};

/// Memory of a decoded message, as a multiple of its length on the wire.
const DECODED_FACTOR: usize = 4;

/// State of an agent. It survives when the agent is replaced.
#[derive(Debug)]
pub(super) struct AgentState {
    /// The part that calls use.
    pub(super) shared: Arc<SharedState>,
    pub(super) counters: AgentCounters,
    notices: broadcast::Sender<HeldNotice>,
    reported: Arc<MetricsCollector>,
    pub(super) config_requests: Arc<ConfigRequests>,
    /// Writes the agent's log messages to the proxy's log.
    pub(super) log: AgentLog,
    /// Set if a connection may have other settings than the agent should have; cleared by
    /// maintenance.
    pub(super) settings_resend_requested: AtomicBool,
}

/// A notice that waits for receivers, and the charge for its memory.
#[derive(Debug, Clone)]
pub(super) struct HeldNotice {
    pub(super) notice: AgentNotice,
    _charge: Arc<MemoryCharge>,
}

/// Receivers of what agents report on their own.
#[derive(Debug)]
pub(super) struct AgentEventSinks {
    pub(super) notices: broadcast::Sender<HeldNotice>,
    pub(super) reported: Arc<MetricsCollector>,
    pub(super) config_handler: Arc<ArcSwap<ConfigUpdateHandler>>,
    pub(super) memory: MemoryBudget,
}

/// Counters of one agent, except for those that connections count.
#[derive(Debug, Default)]
pub(super) struct AgentCounters {
    pub(super) failed_open: AtomicU64,
    pub(super) allowed_while_paused: AtomicU64,
    pub(super) exchanges_cancelled: AtomicU64,
    pub(super) reconnects: AtomicU64,
}

impl AgentState {
    pub(super) fn new(
        id: &str,
        config: &ResolvedConfig,
        sinks: AgentEventSinks,
        maintenance: Arc<Notify>,
    ) -> Self {
        let shared = SharedState::new(id, config.breaker(), maintenance, sinks.memory);
        let shared = Arc::new(shared);
        Self {
            config_requests: ConfigRequests::new(Arc::clone(&shared), sinks.config_handler),
            shared,
            counters: AgentCounters::default(),
            notices: sinks.notices,
            reported: sinks.reported,
            log: AgentLog::new(config.max_agent_logs_per_second),
            settings_resend_requested: AtomicBool::new(false),
        }
    }

    /// Runs the receive task of a connection to the agent, until the connection ends.
    pub(super) async fn receive(self: Arc<Self>, mut inbound: Inbound) {
        while let Some((event, len)) = inbound.next().await {
            let memory = &self.shared.memory;
            match memory.try_charge(len.saturating_mul(DECODED_FACTOR)) {
                Some(charge) => self.handle(&inbound.connection, event, Arc::new(charge)),
                None => {
                    let detail = format_args!("{len} bytes, dropped at the memory limit");
                    self.shared.record_fault(Fault::UnexpectedMessage, &detail);
                }
            }
        }
    }

    /// Handles an event. What keeps it keeps the charge as well.
    fn handle(
        self: &Arc<Self>,
        connection: &Arc<Connection>,
        event: AgentEvent,
        charge: Arc<MemoryCharge>,
    ) {
        match event {
            AgentEvent::Health(status) => {
                self.notify(charge, |agent_id| AgentNotice::Health { agent_id, status });
            }
            // Recorded under the id by which the pool knows the agent.
            AgentEvent::Metrics(report) => {
                self.reported.record_from(&self.shared.id, &report);
                self.notify(charge, |agent_id| AgentNotice::Metrics { agent_id, report });
            }
            AgentEvent::ConfigUpdate(request) => {
                self.notify(Arc::clone(&charge), |agent_id| AgentNotice::ConfigUpdate {
                    agent_id,
                    request: request.clone(),
                });
                self.config_requests.handle(connection, request, charge);
            }
            AgentEvent::Log(message) => {
                if self.log.write(&self.shared.id, &message) {
                    self.notify(charge, |agent_id| AgentNotice::Log { agent_id, message });
                }
            }
        }
    }

    /// Publishes a notice of the agent, if there are subscribers.
    fn notify(&self, charge: Arc<MemoryCharge>, notice: impl FnOnce(Arc<str>) -> AgentNotice) {
        if self.notices.receiver_count() > 0 {
            let held = HeldNotice {
                notice: notice(Arc::clone(&self.shared.id)),
                _charge: charge,
            };
            // Fails if the last subscriber has gone since the check, which does not matter.
            let _ = self.notices.send(held);
        }
    }
}
