//! Sends notices to the connected proxies, and holds the state that a session shares with its
//! server.

use crate::clock;
use crate::connection::Origin;
use crate::log::log_line;
use crate::memory::{DEFAULT_LIMIT, MemoryAccount, MemoryBudget};
use crate::protocol::{
    ConfigUpdateRequest, ConfigUpdateResponse, FlowControl, FlowControlAction, HealthStatus,
    LogMessage, MetricsReport,
};
use crate::transport::{Peer, PeerKey};
use crate::wire::control::{self, ControlMessage};
use crate::wire::{Dialect, MessageType};
use atomic_waker::AtomicWaker;
use crossbeam_queue::ArrayQueue;
use std::collections::{HashMap, HashSet};
use std::future::{pending, poll_fn};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak};
use std::task::Poll;
use std::time::{Duration, Instant};
use tokio::sync::{Notify, broadcast};
use tokio::time::timeout;

/// Notices that may be queued for a proxy; further ones are dropped.
const MAX_QUEUED_NOTICES: usize = 64;

/// Responses that may be queued for a slow receiver. If one is lost, the request is repeated.
const MAX_QUEUED_RESPONSES: usize = 64;

/// Time in which a session has to send an event to keep its place when places are short.
const EPOCH: Duration = Duration::from_secs(10);

const MIN_RETRY_INTERVAL: Duration = Duration::from_millis(1);

const MAX_RETRY_INTERVAL: Duration = Duration::from_secs(30);

/// Sends notices to all connected proxies: messages that they did not ask for.
///
/// Clones are handles to the same proxies. Flow control and health go to every connection.
/// Everything else goes to one connection of each proxy with tollgate's extension, and to every
/// connection of other proxies, because it cannot be told which of those belong to the same proxy.
///
/// No method waits for a proxy to read. At most 64 notices are queued per connection; further ones
/// are dropped.
///
/// Obtained from [`AgentServer::control`](super::AgentServer::control).
///
/// ```no_run
/// # use tollgate::{AgentHandler, AgentServer, control::FlowControlAction};
/// # async fn example(handler: impl AgentHandler) -> Result<(), tollgate::error::BindError> {
/// let server = AgentServer::builder(handler).listen("/run/waf.sock").bind().await?;
/// let control = server.control();
/// tokio::spawn(server.serve());
/// control.flow_control(FlowControlAction::Pause);
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone)]
pub struct AgentControl {
    sessions: Arc<Mutex<Vec<Weak<SessionHandle>>>>,
    responses: broadcast::Sender<ConfigUpdateResponse>,
    memory: MemoryBudget,
    epochs: Arc<Epochs>,
}

impl Default for AgentControl {
    fn default() -> Self {
        Self {
            sessions: Arc::default(),
            responses: broadcast::Sender::new(MAX_QUEUED_RESPONSES),
            memory: MemoryBudget::new(DEFAULT_LIMIT),
            epochs: Arc::default(),
        }
    }
}

impl AgentControl {
    /// Asks every proxy to pause, to resume, or to send as much as there is capacity for.
    pub fn flow_control(&self, action: FlowControlAction) {
        self.broadcast(&Notice::Flow(FlowControl::for_all(action)));
    }

    /// Like [`flow_control`](Self::flow_control), for one exchange. Proxies that do not know the
    /// exchange ignore it.
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
        self.notify_each_proxy(&Notice::Metrics(Arc::new(report)));
    }

    /// Requests a config update. The proxies' responses are passed to
    /// [`on_config_update_response`](super::AgentHandler::on_config_update_response).
    pub fn request_config_update(&self, request: ConfigUpdateRequest) {
        self.notify_each_proxy(&Notice::ConfigUpdate(Arc::new(request)));
    }

    /// Requests a config update, repeats the request until a proxy answers, and returns the first
    /// answer.
    ///
    /// The first repetition follows after `retry_interval`, and each further one after twice the
    /// time of the one before, up to 30 s. Proxies act only once on requests with the same id.
    ///
    /// Only proxies with tollgate's extension answer. Use a timeout if there may be none.
    pub async fn confirm_config_update(
        &self,
        request: ConfigUpdateRequest,
        retry_interval: Duration,
    ) -> ConfigUpdateResponse {
        let mut responses = self.responses.subscribe();
        let mut retry_delay = retry_interval.max(MIN_RETRY_INTERVAL);
        loop {
            self.request_config_update(request.clone());
            let response = response_to(&request.request_id, &mut responses);
            if let Ok(response) = timeout(retry_delay, response).await {
                return response;
            }
            retry_delay = retry_delay.saturating_mul(2).min(MAX_RETRY_INTERVAL);
        }
    }

    /// Writes a line to the log of every proxy with tollgate's extension. Proxies limit how many
    /// lines they accept.
    pub fn log(&self, message: LogMessage) {
        self.notify_each_proxy(&Notice::Log(Arc::new(message)));
    }

    /// Returns the number of open connections to proxies.
    pub fn connections(&self) -> usize {
        self.sessions()
            .iter()
            .filter(|session| session.strong_count() > 0)
            .count()
    }

    /// Returns the memory that the proxies make the server hold, in bytes: what was received of
    /// frames, waiting events and unsent answers. See
    /// [`max_memory`](super::AgentServerBuilder::max_memory).
    pub fn memory_used(&self) -> usize {
        self.memory.used()
    }

    /// Returns the limit of [`memory_used`](Self::memory_used), in bytes.
    pub fn memory_limit(&self) -> usize {
        self.memory.limit()
    }

    /// Returns the number of connections that were ended because the memory limit was exceeded and
    /// they held most.
    pub fn ended_for_memory(&self) -> u64 {
        self.memory.ended()
    }

    pub(super) fn memory(&self) -> &MemoryBudget {
        &self.memory
    }

    /// Adds a session, on a connection that this side dialed if `origin` is
    /// [`Reverse`](Origin::Reverse). It is removed once the returned handle is dropped.
    pub(super) fn register(&self, origin: Origin, peer: Peer) -> Arc<SessionHandle> {
        let session = Arc::new(SessionHandle::new(origin, peer, self));
        let mut sessions = self.sessions();
        sessions.retain(|session| session.strong_count() > 0);
        sessions.push(Arc::downgrade(&session));
        session
    }

    /// Makes every session on an accepted connection finish its events and end. The task of a
    /// dialed connection tells the proxy first.
    pub(super) fn drain(&self) {
        self.for_each_session(|session| {
            if session.origin == Origin::Forward {
                session.drain();
            }
        });
    }

    /// Makes a silent session end, the oldest of the peer that has most of them. Returns `false` if
    /// there is none.
    ///
    /// A session is silent if it has sent no event yet, or none for a whole epoch. A session with
    /// unfinished events answers them before it ends.
    pub(super) fn make_room(&self) -> bool {
        let epoch = self.epochs.advance();
        let sessions = self.sessions();
        let served = sessions.iter().filter_map(Weak::upgrade);
        let served = served.filter(|session| session.has_place.load(Ordering::Relaxed));
        let silent = served.filter(|session| !session.is_draining() && session.is_silent(epoch));
        let silent: Vec<_> = silent.collect();
        let mut counts = HashMap::<PeerKey, usize>::new();
        for session in &silent {
            *counts.entry(session.peer.key).or_default() += 1;
        }
        // Reversed, since the last of those with the same count is returned.
        let oldest_first = silent.iter().rev();
        let session = oldest_first.max_by_key(|session| counts.get(&session.peer.key));
        if let Some(session) = session {
            session.drain();
        }
        session.is_some()
    }

    fn broadcast(&self, notice: &Notice) {
        self.for_each_session(|session| {
            session.send(notice);
        });
    }

    fn notify_each_proxy(&self, notice: &Notice) {
        let once = Arc::new(OncePerProxy {
            notice: notice.clone(),
            reached: Reached::default(),
        });
        self.for_each_session(|session| {
            if let Some(id) = session.proxy_id.get() {
                once.reached.send_once(id, || session.send(notice));
            } else {
                // During the handshake it is not known yet whose connection this is.
                session.send(&Notice::OncePerProxy(Arc::clone(&once)));
            }
        });
    }

    fn for_each_session(&self, action: impl Fn(&SessionHandle)) {
        for session in self.sessions().iter().filter_map(Weak::upgrade) {
            action(&session);
        }
    }

    fn sessions(&self) -> MutexGuard<'_, Vec<Weak<SessionHandle>>> {
        self.sessions.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Periods of time by which sessions are told to be silent. They pass only while places are short:
/// a session that is busy then is seen to be, however long it was not looked at before.
#[derive(Debug)]
struct Epochs {
    current: AtomicU64,
    began: Mutex<Instant>,
}

impl Default for Epochs {
    fn default() -> Self {
        Self {
            current: AtomicU64::new(1),
            began: Mutex::new(clock::now()),
        }
    }
}

impl Epochs {
    /// Begins the next epoch if the present one is over, and returns its number.
    fn advance(&self) -> u64 {
        let mut began = self.began.lock().unwrap_or_else(PoisonError::into_inner);
        if clock::elapsed(*began) >= EPOCH {
            *began = clock::now();
            self.current.fetch_add(1, Ordering::Relaxed);
        }
        self.current.load(Ordering::Relaxed)
    }
}

/// Proxies that a notice was sent to, of those with tollgate's extension.
#[derive(Debug, Default)]
struct Reached(Mutex<HashSet<String>>);

impl Reached {
    /// Calls `send` unless the notice was sent to this proxy. Returns whether it is sent now.
    fn send_once(&self, proxy_id: &str, send: impl FnOnce() -> bool) -> bool {
        // No code under the lock panics halfway through a change.
        let mut reached = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let is_sent = !reached.contains(proxy_id) && send();
        if is_sent {
            reached.insert(proxy_id.to_owned());
        }
        is_sent
    }
}

/// A notice that only one connection of each proxy sends, queued before the proxy is known.
#[derive(Debug)]
pub(super) struct OncePerProxy {
    notice: Notice,
    reached: Reached,
}

/// State of a session that the server and [`AgentControl`] share with it.
#[derive(Debug)]
pub(super) struct SessionHandle {
    origin: Origin,
    /// The proxy that connected, or the address that was dialed.
    peer: Peer,
    /// Set while the session has a place among those that are served at once.
    has_place: AtomicBool,
    /// Epoch of the last event; 0 if there was none.
    last_epoch: AtomicU64,
    epochs: Arc<Epochs>,
    notices: ArrayQueue<Notice>,
    draining: AtomicBool,
    pub(super) waker: AtomicWaker,
    /// Set after the handshake if the proxy has tollgate's extension, so that its connections can
    /// be told from those of other proxies.
    proxy_id: OnceLock<String>,
    responses: broadcast::Sender<ConfigUpdateResponse>,
    /// Set when something is received, and cleared by [`take_received`](Self::take_received).
    received: AtomicBool,
    pong: Notify,
    memory: MemoryBudget,
}

impl SessionHandle {
    fn new(origin: Origin, peer: Peer, control: &AgentControl) -> Self {
        Self {
            origin,
            peer,
            has_place: AtomicBool::new(false),
            last_epoch: AtomicU64::new(0),
            epochs: Arc::clone(&control.epochs),
            notices: ArrayQueue::new(MAX_QUEUED_NOTICES),
            draining: AtomicBool::new(false),
            waker: AtomicWaker::new(),
            proxy_id: OnceLock::new(),
            responses: control.responses.clone(),
            received: AtomicBool::new(false),
            pong: Notify::new(),
            memory: control.memory.clone(),
        }
    }

    /// Returns the name of the peer for the log.
    pub(super) fn peer(&self) -> &Arc<str> {
        &self.peer.name
    }

    /// Opens the account of what the session holds. The session is woken if it has to end.
    pub(super) fn open_account(self: &Arc<Self>) -> MemoryAccount {
        let session = Arc::clone(self);
        self.memory.open_account(move || session.waker.wake())
    }

    /// Makes the session finish its events and end.
    pub(super) fn drain(&self) {
        self.draining.store(true, Ordering::Release);
        self.waker.wake();
    }

    /// Queues a notice for the proxy. Returns `false` if the queue is full because the proxy does
    /// not read.
    pub(super) fn notify(&self, notice: Notice) -> bool {
        let is_queued = self.notices.push(notice).is_ok();
        self.waker.wake();
        is_queued
    }

    /// Takes the next notice to send, after the handshake.
    pub(super) fn next_notice(&self) -> Option<Notice> {
        loop {
            let notice = self.notices.pop()?;
            let (Notice::OncePerProxy(once), Some(id)) = (&notice, self.proxy_id.get()) else {
                return Some(notice);
            };
            if once.reached.send_once(id, || true) {
                return Some(notice);
            }
        }
    }

    /// Records whether the session has a place among those that are served at once.
    pub(super) fn set_place(&self, has_place: bool) {
        self.has_place.store(has_place, Ordering::Relaxed);
    }

    /// Records that an event was received.
    pub(super) fn mark_active(&self) {
        let epoch = self.epochs.current.load(Ordering::Relaxed);
        self.last_epoch.store(epoch, Ordering::Relaxed);
    }

    fn is_silent(&self, epoch: u64) -> bool {
        let last = self.last_epoch.load(Ordering::Relaxed);
        last == 0 || last + 1 < epoch
    }

    /// Records that something was received.
    pub(super) fn mark_received(&self) {
        self.received.store(true, Ordering::Relaxed);
    }

    /// Returns whether something was received since the last call.
    pub(super) fn take_received(&self) -> bool {
        self.received.swap(false, Ordering::Relaxed)
    }

    /// Records that the proxy answered a ping.
    pub(super) fn mark_pong(&self) {
        self.pong.notify_one();
    }

    /// Waits until the proxy answers a ping.
    pub(super) async fn pong_received(&self) {
        self.pong.notified().await;
    }

    /// Sets the id of the proxy that the connection belongs to.
    pub(super) fn set_proxy_id(&self, proxy_id: String) {
        // A session has one handshake, so this is set at most once.
        let _ = self.proxy_id.set(proxy_id);
    }

    /// Passes the proxy's response on to [`AgentControl::confirm_config_update`].
    pub(super) fn publish_response(&self, response: &ConfigUpdateResponse) {
        // Fails if no call waits for a response, which is the usual case.
        let _ = self.responses.send(response.clone());
    }

    /// Like [`notify`](Self::notify), and logs a notice that is dropped.
    fn send(&self, notice: &Notice) -> bool {
        let is_queued = self.notify(notice.clone());
        if !is_queued {
            let peer = self.peer();
            log_line!(
                warn,
                peer,
                { peer },
                "dropped a notice: the proxy does not read and its queue is full"
            );
        }
        is_queued
    }

    pub(super) fn is_draining(&self) -> bool {
        self.draining.load(Ordering::Acquire)
    }

    /// Waits until the session is told to drain.
    pub(super) async fn drain_requested(&self) {
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

async fn response_to(
    request_id: &str,
    responses: &mut broadcast::Receiver<ConfigUpdateResponse>,
) -> ConfigUpdateResponse {
    loop {
        match responses.recv().await {
            Ok(response) if response.request_id == request_id => return response,
            // Cannot happen: the `AgentControl` that waits holds a sender.
            Err(broadcast::error::RecvError::Closed) => return pending().await,
            _ => {}
        }
    }
}

/// A message to a proxy that answers none of its messages.
#[derive(Debug, Clone)]
pub(super) enum Notice {
    Flow(FlowControl),
    Health(Arc<HealthStatus>),
    Metrics(Arc<MetricsReport>),
    ConfigUpdate(Arc<ConfigUpdateRequest>),
    /// A keepalive ping.
    Ping(u64),
    Log(Arc<LogMessage>),
    OncePerProxy(Arc<OncePerProxy>),
}

impl Notice {
    /// Returns the messages that carry the notice, with their payloads. Empty if the dialect has no
    /// message for it.
    pub(super) fn messages(&self, dialect: Dialect) -> Vec<(MessageType, Vec<u8>)> {
        fn message<M: ControlMessage>(content: &M, dialect: Dialect) -> (MessageType, Vec<u8>) {
            (M::MESSAGE, control::encode(content, dialect.encoding))
        }
        match self {
            Self::OncePerProxy(once) => once.notice.messages(dialect),
            Self::Log(line) if dialect.has_streams() => vec![message(&**line, dialect)],
            Self::Log(_) => Vec::new(),
            Self::Flow(request) => vec![message(request, dialect)],
            Self::Health(status) => control::encode_health(status, dialect.encoding)
                .into_iter()
                .map(|payload| (MessageType::HealthStatus, payload))
                .collect(),
            Self::Metrics(report) => vec![message(&**report, dialect)],
            Self::ConfigUpdate(request) => vec![message(&**request, dialect)],
            Self::Ping(sequence) => {
                let payload = control::encode_ping(*sequence, dialect.encoding);
                vec![(MessageType::Ping, payload)]
            }
        }
    }
}

#[cfg(test)]
#[path = "../../tests/unit/agent/control.rs"]
mod tests;
