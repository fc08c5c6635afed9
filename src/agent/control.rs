use crate::protocol::{
    ConfigUpdateRequest, FlowControl, FlowControlAction, HealthStatus, MetricsReport,
};
use crate::wire::{Encoding, MessageType, control};
use atomic_waker::AtomicWaker;
use crossbeam_queue::ArrayQueue;
use std::future::poll_fn;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::task::Poll;
use tokio::sync::Notify;

/// Tells every connected proxy something that it did not ask for.
///
/// A handle: clones reach the same proxies. Obtained from
/// [`UdsAgentServer::control`](super::UdsAgentServer::control) or
/// [`AgentDialer::control`](super::AgentDialer::control).
///
/// ```no_run
/// # use tollgate::{AgentHandler, FlowControlAction, UdsAgentServer};
/// # async fn example(handler: impl AgentHandler) -> Result<(), tollgate::AgentProtocolError> {
/// let server = UdsAgentServer::new("/run/waf.sock", handler);
/// let control = server.control();
/// tokio::spawn(server.run());
/// control.flow_control(FlowControlAction::Pause);
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone, Default)]
pub struct AgentControl {
    sessions: Arc<Mutex<Vec<Weak<Mailbox>>>>,
}

impl AgentControl {
    /// Asks every proxy to pause, go on, or send as much as there is room for.
    pub fn flow_control(&self, action: FlowControlAction) {
        self.broadcast(&Notice::Flow(FlowControl::for_all(action)));
    }

    /// The same for one exchange. Proxies that do not know the exchange take no notice.
    pub fn flow_control_for(&self, correlation_id: impl Into<String>, action: FlowControlAction) {
        self.broadcast(&Notice::Flow(FlowControl {
            correlation_id: Some(correlation_id.into()),
            ..FlowControl::for_all(action)
        }));
    }

    /// Reports the agent's health.
    pub fn report_health(&self, status: HealthStatus) {
        self.broadcast(&Notice::Health(Arc::new(status)));
    }

    /// Reports metrics.
    pub fn report_metrics(&self, report: MetricsReport) {
        self.broadcast(&Notice::Metrics(Arc::new(report)));
    }

    /// Asks for a change of configuration.
    pub fn request_config_update(&self, request: ConfigUpdateRequest) {
        self.broadcast(&Notice::ConfigUpdate(Arc::new(request)));
    }

    /// How many proxies' connections are open.
    pub fn connections(&self) -> usize {
        self.sessions()
            .iter()
            .filter(|session| session.strong_count() > 0)
            .count()
    }

    /// Adds a connection; it is forgotten when the mailbox is dropped.
    pub(super) fn join(&self) -> Arc<Mailbox> {
        let mailbox = Arc::new(Mailbox::default());
        let mut sessions = self.sessions();
        sessions.retain(|session| session.strong_count() > 0);
        sessions.push(Arc::downgrade(&mailbox));
        mailbox
    }

    /// Has every connection finish what it has and end.
    pub(super) fn drain(&self) {
        self.for_each(Mailbox::drain);
    }

    fn broadcast(&self, notice: &Notice) {
        self.for_each(|mailbox| {
            if !mailbox.tell(notice.clone()) {
                tracing::warn!("a proxy does not read; a notice to it is dropped");
            }
        });
    }

    fn for_each(&self, tell: impl Fn(&Mailbox)) {
        for mailbox in self.sessions().iter().filter_map(Weak::upgrade) {
            tell(&mailbox);
        }
    }

    fn sessions(&self) -> MutexGuard<'_, Vec<Weak<Mailbox>>> {
        self.sessions.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Where a session finds what it is to tell its proxy.
#[derive(Debug)]
pub(super) struct Mailbox {
    pub(super) notices: ArrayQueue<Notice>,
    draining: AtomicBool,
    pub(super) waker: AtomicWaker,
    /// Whether something was received since this was last asked.
    heard: AtomicBool,
    pong: Notify,
}

impl Mailbox {
    /// Has the connection finish what it has and end.
    pub(super) fn drain(&self) {
        self.draining.store(true, Ordering::Release);
        self.waker.wake();
    }

    /// Leaves a notice for the proxy. Fails if it does not read those that it has.
    pub(super) fn tell(&self, notice: Notice) -> bool {
        let told = self.notices.push(notice).is_ok();
        self.waker.wake();
        told
    }

    /// Notes that something was received.
    pub(super) fn hear(&self) {
        self.heard.store(true, Ordering::Relaxed);
    }

    /// Whether something was received since this was last asked.
    pub(super) fn has_heard(&self) -> bool {
        self.heard.swap(false, Ordering::Relaxed)
    }

    /// Notes that the proxy has answered a ping.
    pub(super) fn hear_pong(&self) {
        self.pong.notify_one();
    }

    /// Waits for the answer to a ping.
    pub(super) async fn pong(&self) {
        self.pong.notified().await;
    }

    pub(super) fn is_draining(&self) -> bool {
        self.draining.load(Ordering::Acquire)
    }

    /// Waits until the server stops.
    pub(super) async fn drained(&self) {
        poll_fn(|cx| {
            self.waker.register(cx.waker());
            if self.is_draining() {
                Poll::Ready(())
            } else {
                Poll::Pending
            }
        })
        .await;
    }
}

/// Notices that may wait for a proxy to read; later ones are dropped.
const MAILBOX_CAPACITY: usize = 64;

impl Default for Mailbox {
    fn default() -> Self {
        Self {
            notices: ArrayQueue::new(MAILBOX_CAPACITY),
            draining: AtomicBool::new(false),
            waker: AtomicWaker::new(),
            heard: AtomicBool::new(false),
            pong: Notify::new(),
        }
    }
}

/// Something that a proxy is told unasked.
#[derive(Debug, Clone)]
pub(super) enum Notice {
    Flow(FlowControl),
    Health(Arc<HealthStatus>),
    Metrics(Arc<MetricsReport>),
    ConfigUpdate(Arc<ConfigUpdateRequest>),
    /// Asks for a sign of life.
    Ping(u64),
}

impl Notice {
    /// The messages that say it, with their payloads.
    pub(super) fn messages(&self, encoding: Encoding) -> Vec<(MessageType, Vec<u8>)> {
        match self {
            Self::Flow(message) => vec![(
                MessageType::FlowControl,
                control::encode_flow_control(message, encoding),
            )],
            Self::Health(status) => control::encode_health(status, encoding)
                .map(|payload| (MessageType::HealthStatus, payload))
                .into(),
            Self::Metrics(report) => vec![(
                MessageType::MetricsReport,
                control::encode_control(&**report, encoding),
            )],
            Self::ConfigUpdate(request) => vec![(
                MessageType::ConfigUpdateRequest,
                control::encode_control(&**request, encoding),
            )],
            Self::Ping(sequence) => vec![(MessageType::Ping, control::encode_ping(*sequence))],
        }
    }
}
