//! Sends notices to the connected proxies, and holds the state that a session shares with its
//! server.

use crate::connection::Origin;
use crate::log::log_line;
use crate::protocol::{
    ConfigUpdateRequest, ConfigUpdateResponse, FlowControl, FlowControlAction, HealthStatus,
    LogMessage, MetricsReport,
};
use crate::wire::{Dialect, MessageType, control};
use atomic_waker::AtomicWaker;
use crossbeam_queue::ArrayQueue;
use std::collections::HashSet;
use std::future::{pending, poll_fn};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak};
use std::task::Poll;
use std::time::Duration;
use tokio::sync::{Notify, broadcast};
use tokio::time::timeout;

/// Notices that may be queued for a proxy; further ones are dropped.
const MAX_QUEUED_NOTICES: usize = 64;

/// Responses that may be queued for a slow receiver. If one is lost, the request is repeated.
const MAX_QUEUED_RESPONSES: usize = 64;

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
}

impl Default for AgentControl {
    fn default() -> Self {
        Self {
            sessions: Arc::default(),
            responses: broadcast::Sender::new(MAX_QUEUED_RESPONSES),
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

    /// Adds a session on a connection that was accepted. It is removed once the returned handle is
    /// dropped.
    pub(super) fn register_session(&self, peer: Arc<str>) -> Arc<SessionHandle> {
        self.register(Origin::Forward, peer)
    }

    /// Like [`register_session`](Self::register_session), on a connection to a proxy that was
    /// dialed.
    pub(super) fn register_dialed_session(&self, peer: Arc<str>) -> Arc<SessionHandle> {
        self.register(Origin::Reverse, peer)
    }

    fn register(&self, origin: Origin, peer: Arc<str>) -> Arc<SessionHandle> {
        let session = Arc::new(SessionHandle::new(origin, peer, self.responses.clone()));
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
    /// Where the proxy connects from, or the address that was dialed, for the log.
    peer: Arc<str>,
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
}

impl SessionHandle {
    fn new(
        origin: Origin,
        peer: Arc<str>,
        responses: broadcast::Sender<ConfigUpdateResponse>,
    ) -> Self {
        Self {
            origin,
            peer,
            notices: ArrayQueue::new(MAX_QUEUED_NOTICES),
            draining: AtomicBool::new(false),
            waker: AtomicWaker::new(),
            proxy_id: OnceLock::new(),
            responses,
            received: AtomicBool::new(false),
            pong: Notify::new(),
        }
    }

    pub(super) fn peer(&self) -> &Arc<str> {
        &self.peer
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
        let encoding = dialect.encoding;
        match self {
            Self::OncePerProxy(once) => once.notice.messages(dialect),
            Self::Log(message) if dialect.has_streams() => {
                vec![(MessageType::Log, control::encode(&**message, encoding))]
            }
            Self::Log(_) => Vec::new(),
            Self::Flow(message) => {
                vec![(MessageType::FlowControl, control::encode(message, encoding))]
            }
            Self::Health(status) => control::encode_health(status, encoding)
                .into_iter()
                .map(|payload| (MessageType::HealthStatus, payload))
                .collect(),
            Self::Metrics(report) => vec![(
                MessageType::MetricsReport,
                control::encode(&**report, encoding),
            )],
            Self::ConfigUpdate(request) => vec![(
                MessageType::ConfigUpdateRequest,
                control::encode(&**request, encoding),
            )],
            Self::Ping(sequence) => {
                vec![(MessageType::Ping, control::encode_ping(*sequence, encoding))]
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::LogLevel;

    #[test]
    fn a_proxy_gets_a_notice_once_although_a_handshake_is_under_way() {
        let control = AgentControl::default();
        let sessions: Vec<_> = (0..5)
            .map(|_| control.register_session("proxy".into()))
            .collect();
        sessions[0].set_proxy_id("first".to_owned());
        control.log(LogMessage::new(LogLevel::Info, "line"));
        for (session, id) in sessions[1..].iter().zip(["first", "second", "second"]) {
            session.set_proxy_id(id.to_owned());
        }
        let takes = |session: &Arc<SessionHandle>| session.next_notice().is_some();
        let taken: Vec<_> = sessions.iter().map(takes).collect();
        // The last one has no proxy with the extension.
        assert_eq!(taken, [true, false, true, false, true]);
    }
}
