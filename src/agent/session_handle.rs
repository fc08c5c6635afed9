//! The state that a session shares with its server, and the notices that it sends to its proxy.

use crate::clock;
use crate::connection::Origin;
use crate::log::log_line;
use crate::memory::{MemoryAccount, MemoryBudget};
use crate::protocol::{
    ConfigUpdateRequest, ConfigUpdateResponse, DrainRequest, FlowControl, HealthStatus, LogMessage,
    MetricsReport,
};
use crate::transport::{Peer, PeerKey};
use crate::wire::control::{self, ControlMessage};
use crate::wire::{Dialect, MessageType};
use atomic_waker::AtomicWaker;
use crossbeam_queue::ArrayQueue;
use std::collections::HashSet;
use std::future::poll_fn;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::task::Poll;
use std::time::{Duration, Instant};
use tokio::sync::{Notify, broadcast};

/// Memory of a connection that holds nothing: its task, its socket and its tables, some 24 KiB,
/// with what an allocator adds.
pub(super) const CONNECTION_SIZE: usize = 32 * 1024;

/// Notices that may be queued for a proxy; further ones are dropped.
const MAX_QUEUED_NOTICES: usize = 64;

/// Time in which a session has to send an event to keep its place when places are short.
const EPOCH: Duration = Duration::from_secs(10);

/// Periods of time by which sessions are told to be silent. They pass only while places are short:
/// a session that is busy then is seen to be, however long it was not looked at before.
#[derive(Debug)]
pub(super) struct Epochs {
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
    pub(super) fn advance(&self) -> u64 {
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

impl OncePerProxy {
    pub(super) fn of(notice: Notice) -> Self {
        Self {
            notice,
            reached: Reached::default(),
        }
    }
}

/// State of a session that the server and [`AgentControl`] share with it.
#[derive(Debug)]
pub(super) struct SessionHandle {
    pub(super) origin: Origin,
    /// The proxy that connected, or the address that was dialed.
    peer: Peer,
    /// Set while the session has a place among those that are served at once.
    has_place: AtomicBool,
    /// Set after the handshake if the proxy can be asked to move to another connection.
    can_be_moved: AtomicBool,
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
    pub(super) fn new(
        origin: Origin,
        peer: Peer,
        epochs: Arc<Epochs>,
        responses: broadcast::Sender<ConfigUpdateResponse>,
        memory: MemoryBudget,
    ) -> Self {
        Self {
            origin,
            peer,
            has_place: AtomicBool::new(false),
            can_be_moved: AtomicBool::new(false),
            last_epoch: AtomicU64::new(0),
            epochs,
            notices: ArrayQueue::new(MAX_QUEUED_NOTICES),
            draining: AtomicBool::new(false),
            waker: AtomicWaker::new(),
            proxy_id: OnceLock::new(),
            responses,
            received: AtomicBool::new(false),
            pong: Notify::new(),
            memory,
        }
    }

    /// Returns the name of the peer for the log.
    pub(super) fn peer(&self) -> &Arc<str> {
        &self.peer.name
    }

    /// Opens the account of what the session holds. The session is woken if it has to end.
    pub(super) fn open_account(self: &Arc<Self>) -> MemoryAccount {
        let session = Arc::clone(self);
        let mut account = self.memory.open_account(move || session.waker.wake());
        account.set(CONNECTION_SIZE);
        account
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

    pub(super) fn set_dialect(&self, dialect: Dialect) {
        let can_be_moved = dialect.moves_by_drain();
        self.can_be_moved.store(can_be_moved, Ordering::Relaxed);
    }

    /// Returns whether the proxy can be asked to move to another connection.
    pub(super) fn can_be_moved(&self) -> bool {
        self.can_be_moved.load(Ordering::Relaxed)
    }

    pub(super) fn has_place(&self) -> bool {
        self.has_place.load(Ordering::Relaxed)
    }

    pub(super) fn peer_key(&self) -> PeerKey {
        self.peer.key
    }

    /// Records that an event was received.
    pub(super) fn mark_active(&self) {
        let epoch = self.epochs.current.load(Ordering::Relaxed);
        self.last_epoch.store(epoch, Ordering::Relaxed);
    }

    pub(super) fn is_silent(&self, epoch: u64) -> bool {
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

    /// Sends a notice unless another connection of the same proxy does.
    pub(super) fn send_once(&self, once: &Arc<OncePerProxy>) {
        match self.proxy_id.get() {
            Some(id) => once.reached.send_once(id, || self.send(&once.notice)),
            // During the handshake it is not known yet whose connection this is.
            None => self.send(&Notice::OncePerProxy(Arc::clone(once))),
        };
    }

    /// Like [`notify`](Self::notify), and logs a notice that is dropped.
    pub(super) fn send(&self, notice: &Notice) -> bool {
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
    /// Asks the proxy to move to another connection.
    Drain(DrainRequest),
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
            // Over gRPC, only proxies ask.
            Self::Drain(request) if dialect.moves_by_drain() => vec![message(request, dialect)],
            Self::Log(_) | Self::Drain(_) => Vec::new(),
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
