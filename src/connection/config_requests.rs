//! Config update requests of agents: queued for the handler and answered.

use super::{AgentState, Connection};
use crate::blocking;
use crate::protocol::{ConfigUpdateRequest, ConfigUpdateResponse, ConfigUpdateType};
use std::collections::VecDeque;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Maximum number of waiting requests per agent; more are rejected.
const MAX_WAITING: usize = 64;

/// Requests of one agent that wait for the handler, oldest first.
#[derive(Debug, Default)]
pub(super) struct UpdateQueue(Mutex<Requests>);

#[derive(Debug, Default)]
struct Requests {
    queue: VecDeque<(Arc<Connection>, ConfigUpdateRequest)>,
    /// Set while a [`Worker`] takes requests out. So an agent occupies at most one blocking thread.
    has_worker: bool,
}

impl UpdateQueue {
    fn lock(&self) -> MutexGuard<'_, Requests> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns the next request. With `None` the worker is signed off, under the same lock, so that
    /// the next request starts another one.
    fn next(&self) -> Option<(Arc<Connection>, ConfigUpdateRequest)> {
        let mut requests = self.lock();
        let next = requests.queue.pop_front();
        requests.has_worker = next.is_some();
        next
    }
}

impl Connection {
    /// Passes a request to the handler, on a thread where the handler may block.
    pub(super) fn handle_config_request(self: &Arc<Self>, request: ConfigUpdateRequest) {
        let agent = Arc::clone(&self.agent);
        let mut requests = agent.updates.lock();
        if requests.queue.len() >= MAX_WAITING {
            drop(requests);
            tracing::warn!(
                agent = &*agent.id,
                limit = MAX_WAITING,
                "config update request rejected: too many requests of this agent are waiting"
            );
            let reason = "Too many requests are waiting";
            return self.respond(ConfigUpdateResponse::failure(request.request_id, reason));
        }
        requests.queue.push_back((Arc::clone(self), request));
        let has_worker = std::mem::replace(&mut requests.has_worker, true);
        drop(requests);
        if !has_worker {
            let worker = Worker {
                agent,
                is_finished: false,
            };
            blocking::spawn(move || worker.run());
        }
    }

    fn respond(&self, response: ConfigUpdateResponse) {
        let counters = &self.agent.counters;
        let count = if response.accepted {
            &counters.updates_accepted
        } else {
            &counters.updates_rejected
        };
        count.fetch_add(1, Ordering::Relaxed);
        // Dropped if the send queue is full or the agent is gone. Such an agent has to ask again.
        self.try_send_extension(&response);
    }
}

/// The one worker of an agent's queue.
///
/// If its runtime shuts down before it has run, or the handler panics, the waiting requests are
/// rejected: nobody would take them out, and they keep their connections alive.
struct Worker {
    agent: Arc<AgentState>,
    is_finished: bool,
}

impl Worker {
    fn run(mut self) {
        let agent = Arc::clone(&self.agent);
        while let Some((connection, request)) = agent.updates.next() {
            let is_reload = request.update_type == ConfigUpdateType::RequestReload;
            let handler = agent.sinks.updates.load_full();
            let response = handler.handle_from(&agent.id, request);
            if is_reload && response.accepted {
                agent.reload_requested.store(true, Ordering::Release);
                agent.request_maintenance();
            }
            connection.respond(response);
        }
        self.is_finished = true;
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        if self.is_finished {
            return;
        }
        let left = std::mem::take(&mut *self.agent.updates.lock());
        for (connection, request) in left.queue {
            let reason = "The proxy could not handle the request";
            connection.respond(ConfigUpdateResponse::failure(request.request_id, reason));
        }
    }
}
