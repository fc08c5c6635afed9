//! The sessions of a server: accepting connections, their handshakes within the server's limits,
//! and their end when the server drains.

use super::super::control::AgentControl;
use super::super::handshake::{AcceptedProxy, accept_handshake};
use super::super::session::{SessionParts, serve};
use super::super::session_handle::SessionHandle;
use super::places::Places;
use crate::connection::link::{CloseReason, Link};
use crate::connection::{Origin, SharedMemoryConfig};
use crate::error::ConnectError;
use crate::handler::AgentHandler;
use crate::lock::lock;
use crate::log::log_line;
use crate::transport::{HandshakeLimiter, HandshakeSlot, Peer, SharedLimiter};
use crate::wire::{Encoding, FrameBuffer};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::timeout;

/// The sessions of a server, of all its listeners and of the proxies that it dials.
pub(in crate::agent) struct Sessions<H> {
    pub(in crate::agent) handler: Arc<H>,
    pub(in crate::agent) control: AgentControl,
    pub(in crate::agent) limits: SessionLimits,
    pub(in crate::agent) places: Arc<Places>,
    /// Limits the connections that have not completed their handshake, and HTTP/2 connections
    /// without streams.
    pub(in crate::agent) limiter: Arc<SharedLimiter>,
    /// Number of connections that were closed before their handshake was complete.
    rejected: AtomicU64,
    stopping: watch::Sender<bool>,
    tasks: Mutex<JoinSet<()>>,
}

/// Limits of a server's sessions.
#[derive(Debug, Clone)]
pub(in crate::agent) struct SessionLimits {
    pub(in crate::agent) encodings: Vec<Encoding>,
    pub(in crate::agent) max_connections: usize,
    pub(in crate::agent) max_concurrent: usize,
    pub(in crate::agent) handshake_timeout: Duration,
    /// Time in which an incomplete frame has to make progress.
    pub(in crate::agent) frame_timeout: Duration,
    pub(in crate::agent) shared_memory: SharedMemoryConfig,
}

/// Reason why a connection was closed before its handshake was complete.
#[derive(Debug, thiserror::Error)]
pub(in crate::agent) enum Rejected {
    #[error(transparent)]
    Handshake(#[from] ConnectError),
    #[error("too many connections have not completed their handshake")]
    Evicted,
    #[error("the agent is shutting down")]
    Stopping,
}

impl<H: AgentHandler> Sessions<H> {
    pub(super) fn new(handler: Arc<H>, control: AgentControl, limits: SessionLimits) -> Self {
        Self {
            handler,
            places: Arc::new(Places::new(limits.max_connections, control.clone())),
            control,
            limiter: Arc::new(Mutex::new(HandshakeLimiter::new(limits.max_connections))),
            limits,
            rejected: AtomicU64::new(0),
            stopping: watch::Sender::new(false),
            tasks: Mutex::default(),
        }
    }

    /// Serves one connection from the handshake until it ends.
    pub(in crate::agent) async fn serve(
        &self,
        mut link: Link,
        handle: Arc<SessionHandle>,
        mut slot: HandshakeSlot,
        encodings: &[Encoding],
    ) {
        let memory = handle.open_account();
        let mut buffer = FrameBuffer::default();
        let handshake = accept_handshake(
            &*self.handler,
            encodings,
            &mut link,
            &mut buffer,
            self.places.acquire(),
            (self.limits.shared_memory, self.control.memory()),
        );
        let interrupted = interrupted(&mut slot, &handle);
        let accepted = self.admit(handshake, interrupted).await;
        let AcceptedProxy {
            dialect,
            permit: _permit,
            proxy_id,
        } = match accepted {
            Ok(accepted) => accepted,
            Err(rejected) => {
                self.log(handle.peer(), &rejected);
                let reason = rejected.close_reason();
                link.sender.send_close_reason(reason, &rejected);
                // Closed before the slot is dropped, which says that its descriptors are free.
                drop(link);
                return;
            }
        };
        drop(slot);
        handle.set_place(true);
        handle.set_dialect(dialect);
        if dialect.has_streams() {
            handle.set_proxy_id(proxy_id);
        }
        let parts = SessionParts {
            handler: Arc::clone(&self.handler),
            buffer,
            dialect: dialect.within(link.max_frame),
            link,
            memory,
            handle: Arc::clone(&handle),
            max_concurrent: self.limits.max_concurrent,
            frame_timeout: self.limits.frame_timeout,
        };
        if let Err(error) = serve(parts).await {
            let peer = handle.peer();
            log_line!(warn, peer, { peer, error }, "the connection of a proxy failed");
        }
    }

    /// Performs a step of a handshake within its time limit, unless it is interrupted.
    pub(in crate::agent) async fn admit<T>(
        &self,
        step: impl Future<Output = Result<T, ConnectError>>,
        interrupted: impl Future<Output = Rejected>,
    ) -> Result<T, Rejected> {
        let time_limit = self.limits.handshake_timeout;
        tokio::select! {
            biased;
            done = timeout(time_limit, step) => {
                Ok(done.map_err(|_| ConnectError::TimedOut(time_limit))??)
            }
            rejected = interrupted => Err(rejected),
        }
    }

    /// Counts and logs a rejection.
    pub(in crate::agent) fn log(&self, peer: &str, rejected: &Rejected) {
        if matches!(rejected, Rejected::Stopping) {
            return;
        }
        let count = self.rejected.fetch_add(1, Ordering::Relaxed) + 1;
        log_line!(warn, peer, { peer, error = rejected } (count), "rejected a proxy");
    }

    /// Adds a session, before its task begins: the server drains those that it knows.
    pub(super) fn register(&self, peer: Peer) -> (Arc<SessionHandle>, HandshakeSlot) {
        let key = peer.key;
        let handle = self.control.register(Origin::Forward, peer);
        (handle, lock(&self.limiter).enter(key))
    }

    /// Runs a task until it ends, or until the server is dropped or has drained.
    pub(in crate::agent) fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        let mut tasks = lock(&self.tasks);
        while tasks.try_join_next().is_some() {}
        tasks.spawn(task);
    }

    pub(in crate::agent) fn stopping(&self) -> watch::Receiver<bool> {
        self.stopping.subscribe()
    }

    /// Makes every session finish its events and waits until all have, at most for `time_limit`.
    pub(super) async fn drain(&self, time_limit: Duration) {
        self.stopping.send_replace(true);
        self.control.drain();
        let mut tasks = std::mem::take(&mut *lock(&self.tasks));
        let ended = async { while tasks.join_next().await.is_some() {} };
        // Connections that are not done by then are cut off when the set is dropped.
        let _ = timeout(time_limit, ended).await;
    }

    /// Ends all tasks at once.
    pub(super) fn abort(&self) {
        drop(std::mem::take(&mut *lock(&self.tasks)));
    }
}

/// Completes when the connection is evicted or the server stops.
pub(super) async fn interrupted(slot: &mut HandshakeSlot, handle: &SessionHandle) -> Rejected {
    tokio::select! {
        biased;
        () = slot.evicted() => Rejected::Evicted,
        () = handle.drain_requested() => Rejected::Stopping,
    }
}

impl Rejected {
    fn close_reason(&self) -> CloseReason {
        match self {
            Self::Handshake(ConnectError::TimedOut(_)) => CloseReason::HandshakeTimeout,
            Self::Handshake(_) => CloseReason::Invalid,
            Self::Evicted => CloseReason::LimitExceeded,
            Self::Stopping => CloseReason::Stopping,
        }
    }
}
