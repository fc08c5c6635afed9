use super::Stopwatch;
use super::breaker::{CircuitBreaker, CircuitBreakerSettings};
use super::keys::Keys;
use super::lines::Lines;
use super::logs::AgentLog;
use super::updates::UpdateQueue;
use crate::config_push::ConfigUpdateHandler;
use crate::metrics::{CallTally, Counters, MetricsCollector, StageTally};
use crate::protocol::{AgentNotice, LogMessage, MetricsReport};
use arc_swap::ArcSwap;
use crossbeam_queue::ArrayQueue;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64};
use tokio::sync::{Notify, broadcast};

/// What the connections of one agent share, for as long as the pool knows the agent.
#[derive(Debug)]
pub(crate) struct AgentRecord {
    pub(crate) id: Arc<str>,
    pub(crate) counters: Counters,
    pub(crate) calls: CallTally,
    pub(crate) stages: StageTally,
    /// Of timed calls, kept so that none is allocated again.
    stopwatches: ArrayQueue<Stopwatch>,
    pub(crate) breaker: CircuitBreaker,
    /// Where calls wait that may take any connection.
    pub(crate) lines: Lines,
    pub(super) keys: Keys,
    pub(super) audience: Audience,
    /// Told when a connection ends or is not trusted any more.
    upkeep: Arc<Notify>,
    /// Whether calls are allowed when the agent is unavailable.
    pub(crate) fails_open: AtomicBool,
    pub(crate) incidents: Incidents,
    pub(super) updates: UpdateQueue,
    pub(crate) log: AgentLog,
    /// Whether connections may have other settings than they should.
    pub(crate) settings_wanted: AtomicBool,
    /// Whether the agent wants its settings again.
    pub(crate) reload_wanted: AtomicBool,
}

/// So many calls are timed at once without an allocation, if others were before.
const MAX_STOPWATCHES: usize = 16;

/// Who hears what agents say unasked.
#[derive(Debug, Clone)]
pub(crate) struct Audience {
    pub(crate) notices: broadcast::Sender<AgentNotice>,
    pub(crate) reported: Arc<MetricsCollector>,
    pub(crate) updates: Arc<ArcSwap<ConfigUpdateHandler>>,
}

/// What happened to an agent's calls and connections beside how calls ended.
#[derive(Debug, Default)]
pub(crate) struct Incidents {
    pub(crate) failed_open: AtomicU64,
    pub(crate) allowed_while_paused: AtomicU64,
    pub(crate) exchanges_cancelled: AtomicU64,
    pub(crate) reconnects: AtomicU64,
    pub(crate) pauses: AtomicU64,
    pub(crate) resumes: AtomicU64,
    pub(crate) updates_accepted: AtomicU64,
    pub(crate) updates_refused: AtomicU64,
}

impl AgentRecord {
    pub(crate) fn new(
        id: String,
        breaker: CircuitBreakerSettings,
        audience: Audience,
        max_logged_per_second: u32,
        upkeep: Arc<Notify>,
    ) -> Self {
        Self {
            id: id.into(),
            counters: Counters::default(),
            calls: CallTally::default(),
            stages: StageTally::default(),
            stopwatches: ArrayQueue::new(MAX_STOPWATCHES),
            breaker: CircuitBreaker::new(breaker),
            lines: Lines::default(),
            keys: Keys::default(),
            audience,
            upkeep,
            fails_open: AtomicBool::new(false),
            incidents: Incidents::default(),
            updates: UpdateQueue::default(),
            log: AgentLog::new(max_logged_per_second),
            settings_wanted: AtomicBool::new(false),
            reload_wanted: AtomicBool::new(false),
        }
    }

    /// Has the pool look after the agent's connections.
    pub(crate) fn request_upkeep(&self) {
        self.upkeep.notify_one();
    }

    /// A stopwatch for a call.
    pub(super) fn stopwatch(&self) -> Stopwatch {
        self.stopwatches.pop().unwrap_or_else(Stopwatch::new)
    }

    /// Takes a stopwatch back.
    pub(super) fn recycle_stopwatch(&self, watch: Stopwatch) {
        if let Some(watch) = watch.reset() {
            // Where enough are kept, this one is not.
            let _ = self.stopwatches.push(watch);
        }
    }

    /// Tells whoever listens what the agent said unasked.
    pub(super) fn notify(&self, notice: impl FnOnce(Arc<str>) -> AgentNotice) {
        let notices = &self.audience.notices;
        if notices.receiver_count() > 0 {
            // The last listener may have left meanwhile.
            let _ = notices.send(notice(Arc::clone(&self.id)));
        }
    }

    /// Keeps what the agent reports of itself, under the name that the pool has for it.
    pub(super) fn reported(&self, report: MetricsReport) {
        self.audience.reported.record_from(&self.id, &report);
        self.notify(|agent_id| AgentNotice::Metrics { agent_id, report });
    }

    /// Logs what the agent has to say, within limits.
    pub(super) fn logged(&self, message: LogMessage) {
        if self.log.write(&self.id, &message) {
            self.notify(|agent_id| AgentNotice::Log { agent_id, message });
        }
    }

    /// An exchange with this agent.
    pub(crate) fn correlation<'a>(&self, id: &'a str) -> Correlation<'a> {
        Correlation {
            id,
            key: self.keys.key(id),
        }
    }
}

/// What joins the events of one exchange: the id that the wire carries and a hash of it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Correlation<'a> {
    pub(crate) id: &'a str,
    /// Equal for all connections of one agent, different between agents.
    pub(super) key: u64,
}
