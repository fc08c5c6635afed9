use crate::protocol::{
    ConfigUpdateRequest, ConfigUpdateResponse, FlowControl, FlowControlAction, HealthStatus,
    LogMessage, MetricsReport,
};
use crate::wire::{Dialect, MessageType, control};
use atomic_waker::AtomicWaker;
use crossbeam_queue::ArrayQueue;
use std::future::{pending, poll_fn};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak};
use std::task::Poll;
use std::time::Duration;
use tokio::sync::{Notify, broadcast};
use tokio::time::timeout;

/// Tells every connected proxy something that it did not ask for.
///
/// A handle: clones reach the same proxies. Flow control and health go to every connection; the rest goes to one
/// connection of each proxy that has tollgate's extension, and to every connection of others, whose connections
/// cannot be told apart from those of one more proxy.
///
/// Nothing waits for a proxy to read: of 64 notices that wait on one connection, later ones are dropped.
///
/// Obtained from
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
#[derive(Debug, Clone)]
pub struct AgentControl {
    sessions: Arc<Mutex<Vec<Weak<Mailbox>>>>,
    responses: broadcast::Sender<ConfigUpdateResponse>,
}

impl Default for AgentControl {
    fn default() -> Self {
        Self {
            sessions: Arc::default(),
            responses: broadcast::Sender::new(RESPONSES_CAPACITY),
        }
    }
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

    /// Reports metrics. Proxies keep the last value of each series.
    pub fn report_metrics(&self, report: MetricsReport) {
        self.tell_each_proxy(&Notice::Metrics(Arc::new(report)));
    }

    /// Asks for a change of configuration. What a proxy says to it comes to
    /// [`on_config_update_response`](super::AgentHandler::on_config_update_response).
    pub fn request_config_update(&self, request: ConfigUpdateRequest) {
        self.tell_each_proxy(&Notice::ConfigUpdate(Arc::new(request)));
    }

    /// Asks for a change of configuration, again and again until a proxy answers, and returns the first answer. The
    /// second attempt comes after `retry_interval`, each further one after twice the time, at most 30 s. Proxies
    /// act once on requests of one id.
    ///
    /// Only proxies with tollgate's extension answer, so bound the time where there may be none.
    pub async fn confirm_config_update(
        &self,
        request: ConfigUpdateRequest,
        retry_interval: Duration,
    ) -> ConfigUpdateResponse {
        let mut responses = self.responses.subscribe();
        let mut patience = retry_interval.max(MIN_RETRY_INTERVAL);
        loop {
            self.request_config_update(request.clone());
            let answered = response_to(&request.request_id, &mut responses);
            if let Ok(response) = timeout(patience, answered).await {
                return response;
            }
            patience = patience.saturating_mul(2).min(MAX_RETRY_INTERVAL);
        }
    }

    /// Writes a line to the log of proxies with tollgate's extension. They limit how many they take.
    pub fn log(&self, message: LogMessage) {
        self.tell_each_proxy(&Notice::Log(Arc::new(message)));
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
        let mailbox = Arc::new(Mailbox::new(self.responses.clone()));
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
            mailbox.put(notice);
        });
    }

    fn tell_each_proxy(&self, notice: &Notice) {
        let told = Mutex::new(Vec::new());
        self.for_each(|mailbox| {
            let mut told = told.lock().unwrap_or_else(PoisonError::into_inner);
            match mailbox.proxy_id.get() {
                Some(id) if told.contains(id) => {}
                Some(id) if mailbox.put(notice) => told.push(id.clone()),
                Some(_) => {}
                None => {
                    mailbox.put(notice);
                }
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
    /// Set once hands are shaken with a proxy whose connections can be told from those of others.
    proxy_id: OnceLock<String>,
    responses: broadcast::Sender<ConfigUpdateResponse>,
    /// Whether something was received since this was last asked.
    heard: AtomicBool,
    pong: Notify,
}

impl Mailbox {
    fn new(responses: broadcast::Sender<ConfigUpdateResponse>) -> Self {
        Self {
            notices: ArrayQueue::new(MAILBOX_CAPACITY),
            draining: AtomicBool::new(false),
            waker: AtomicWaker::new(),
            proxy_id: OnceLock::new(),
            responses,
            heard: AtomicBool::new(false),
            pong: Notify::new(),
        }
    }

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

    /// Says whose connection it is.
    pub(super) fn belongs_to(&self, proxy_id: String) {
        // A session shakes hands once.
        let _ = self.proxy_id.set(proxy_id);
    }

    /// Tells whoever waits for a proxy's response.
    pub(super) fn answered(&self, response: &ConfigUpdateResponse) {
        // Mostly nobody waits.
        let _ = self.responses.send(response.clone());
    }

    fn put(&self, notice: &Notice) -> bool {
        let put = self.tell(notice.clone());
        if !put {
            tracing::warn!("a proxy does not read; a notice to it is dropped");
        }
        put
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

/// Responses that may wait for a slow listener; requests whose response is lost are made again.
const RESPONSES_CAPACITY: usize = 64;

const MIN_RETRY_INTERVAL: Duration = Duration::from_millis(1);

const MAX_RETRY_INTERVAL: Duration = Duration::from_secs(30);

async fn response_to(
    request_id: &str,
    responses: &mut broadcast::Receiver<ConfigUpdateResponse>,
) -> ConfigUpdateResponse {
    loop {
        match responses.recv().await {
            Ok(response) if response.request_id == request_id => return response,
            // The handle that is waited on holds a sender.
            Err(broadcast::error::RecvError::Closed) => return pending().await,
            _ => {}
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
    Log(Arc<LogMessage>),
}

impl Notice {
    /// The messages that say it, with their payloads; none where the dialect has no words for it.
    pub(super) fn messages(&self, dialect: Dialect) -> Vec<(MessageType, Vec<u8>)> {
        let encoding = dialect.encoding;
        match self {
            Self::Log(message) if dialect.has_streams() => vec![(
                MessageType::Log,
                control::encode_extension(&**message, encoding),
            )],
            Self::Log(_) => Vec::new(),
            Self::Flow(message) => vec![(
                MessageType::FlowControl,
                control::encode_flow_control(message, encoding),
            )],
            Self::Health(status) => control::encode_health(status, encoding)
                .into_iter()
                .map(|payload| (MessageType::HealthStatus, payload))
                .collect(),
            Self::Metrics(report) => vec![(
                MessageType::MetricsReport,
                control::encode_metrics_report(report, encoding),
            )],
            Self::ConfigUpdate(request) => vec![(
                MessageType::ConfigUpdateRequest,
                control::encode_config_update(request, encoding),
            )],
            Self::Ping(sequence) => {
                vec![(MessageType::Ping, control::encode_ping(*sequence, encoding))]
            }
        }
    }
}
