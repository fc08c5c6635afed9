//! Config update requests of agents: queued for the handler and answered.

use crate::blocking;
use crate::config_push::ConfigUpdateHandler;
use crate::connection::{Connection, SharedState};
use crate::lock::lock;
use crate::log::log_line;
use crate::memory::MemoryCharge;
use crate::protocol::{ConfigUpdateRequest, ConfigUpdateResponse, ConfigUpdateType};
use arc_swap::ArcSwap;
use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

/// Maximum number of waiting requests per agent; more are rejected.
const MAX_WAITING: usize = 64;

/// Requests of one agent.
#[derive(Debug)]
pub(super) struct ConfigRequests {
    agent: Arc<SharedState>,
    /// Handler of all agents.
    handler: Arc<ArcSwap<ConfigUpdateHandler>>,
    waiting: Mutex<Waiting>,
    pub(super) accepted: AtomicU64,
    pub(super) rejected: AtomicU64,
    /// Set when the agent has requested its settings again; cleared by maintenance.
    pub(super) is_reload_requested: AtomicBool,
}

/// Requests that wait for the handler, oldest first.
#[derive(Debug, Default)]
struct Waiting {
    queue: VecDeque<Request>,
    /// Set while a [`Worker`] takes requests out. So an agent occupies at most one blocking thread.
    has_worker: bool,
}

/// A request, the connection that it came on, and the charge for its memory.
type Request = (Arc<Connection>, ConfigUpdateRequest, Arc<MemoryCharge>);

impl ConfigRequests {
    pub(super) fn new(
        agent: Arc<SharedState>,
        handler: Arc<ArcSwap<ConfigUpdateHandler>>,
    ) -> Arc<Self> {
        Arc::new(Self {
            agent,
            handler,
            waiting: Mutex::default(),
            accepted: AtomicU64::new(0),
            rejected: AtomicU64::new(0),
            is_reload_requested: AtomicBool::new(false),
        })
    }

    /// Passes a request to the handler, on a thread where the handler may block.
    pub(super) fn handle(
        self: &Arc<Self>,
        connection: &Arc<Connection>,
        request: ConfigUpdateRequest,
        charge: Arc<MemoryCharge>,
    ) {
        let mut waiting = lock(&self.waiting);
        if waiting.queue.len() >= MAX_WAITING {
            drop(waiting);
            let (agent, limit) = (&*self.agent.id, MAX_WAITING);
            log_line!(
                warn,
                agent,
                { agent }(limit),
                "config update request rejected: too many requests of this agent are waiting"
            );
            return self.reject(connection, request, "Too many requests are waiting");
        }
        let waits = (Arc::clone(connection), request, charge);
        waiting.queue.push_back(waits);
        let has_worker = std::mem::replace(&mut waiting.has_worker, true);
        drop(waiting);
        if !has_worker {
            let worker = Worker {
                requests: Arc::clone(self),
                is_finished: false,
            };
            blocking::spawn(move || worker.run());
        }
    }

    /// Returns the next request. With `None` the worker is signed off, under the same lock, so that
    /// the next request starts another one.
    fn next(&self) -> Option<Request> {
        let mut waiting = lock(&self.waiting);
        let next = waiting.queue.pop_front();
        waiting.has_worker = next.is_some();
        next
    }

    /// Lets the handler decide, and answers the agent.
    fn decide(&self, connection: &Connection, request: ConfigUpdateRequest) {
        let is_reload = request.update_type == ConfigUpdateType::RequestReload;
        let handler = self.handler.load_full();
        let response = handler.handle_from(&self.agent.id, request);
        if is_reload && response.accepted {
            self.is_reload_requested.store(true, Ordering::Release);
            self.agent.request_maintenance();
        }
        self.respond(connection, &response);
    }

    fn reject(&self, connection: &Connection, request: ConfigUpdateRequest, reason: &str) {
        let response = ConfigUpdateResponse::failure(request.request_id, reason);
        self.respond(connection, &response);
    }

    fn respond(&self, connection: &Connection, response: &ConfigUpdateResponse) {
        let count = if response.accepted {
            &self.accepted
        } else {
            &self.rejected
        };
        count.fetch_add(1, Ordering::Relaxed);
        // Dropped if the send queue is full or the agent is gone. Such an agent has to ask again.
        connection.try_send_extension(response);
    }
}

/// The one worker of an agent's queue.
///
/// If its runtime shuts down before it has run, or the handler panics, the waiting requests are
/// rejected: nobody would take them out, and they keep their connections alive.
struct Worker {
    requests: Arc<ConfigRequests>,
    is_finished: bool,
}

impl Worker {
    fn run(mut self) {
        while let Some((connection, request, _charge)) = self.requests.next() {
            self.requests.decide(&connection, request);
        }
        self.is_finished = true;
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        if self.is_finished {
            return;
        }
        let left = std::mem::take(&mut *lock(&self.requests.waiting));
        for (connection, request, _charge) in left.queue {
            let reason = "The proxy could not handle the request";
            self.requests.reject(&connection, request, reason);
        }
    }
}
