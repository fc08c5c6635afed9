//! Agents' requests for changes of configuration, on their way to the handler and back.

use super::{AgentRecord, Connection};
use crate::protocol::{ConfigUpdateRequest, ConfigUpdateResponse, ConfigUpdateType};
use std::collections::VecDeque;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::task::spawn_blocking;

/// Requests of one agent that may wait for the handler; more are refused.
const MAX_WAITING: usize = 64;

/// Requests of one agent that wait for the handler, in order.
#[derive(Debug, Default)]
pub(super) struct UpdateQueue(Mutex<Waiting>);

#[derive(Debug, Default)]
struct Waiting {
    requests: VecDeque<(Arc<Connection>, ConfigUpdateRequest)>,
    /// Whether a thread takes them out.
    is_served: bool,
}

impl UpdateQueue {
    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The next request; `None` if whoever serves the queue may leave.
    fn next(&self) -> Option<(Arc<Connection>, ConfigUpdateRequest)> {
        let mut waiting = self.waiting();
        let next = waiting.requests.pop_front();
        waiting.is_served = next.is_some();
        next
    }
}

impl Connection {
    /// Has the handler act on a request, on a thread where it may take its time.
    pub(super) fn take_update(self: &Arc<Self>, request: ConfigUpdateRequest) {
        let agent = Arc::clone(&self.agent);
        let mut waiting = agent.updates.waiting();
        if waiting.requests.len() >= MAX_WAITING {
            drop(waiting);
            tracing::warn!(
                agent = &*agent.id,
                "an agent asks for too many changes at once"
            );
            let reason = "Too many requests are waiting";
            return self.respond(ConfigUpdateResponse::failure(request.request_id, reason));
        }
        waiting.requests.push_back((Arc::clone(self), request));
        let is_served = std::mem::replace(&mut waiting.is_served, true);
        drop(waiting);
        if !is_served {
            let serving = Serving {
                agent,
                is_over: false,
            };
            spawn_blocking(move || serving.run());
        }
    }

    fn respond(&self, response: ConfigUpdateResponse) {
        let incidents = &self.agent.incidents;
        let count = if response.accepted {
            &incidents.updates_accepted
        } else {
            &incidents.updates_refused
        };
        count.fetch_add(1, Ordering::Relaxed);
        // An agent that does not read, or that is gone, asks again.
        self.try_tell(&response);
    }
}

/// The duty to take requests out of an agent's queue. It is given back where the runtime ends first.
struct Serving {
    agent: Arc<AgentRecord>,
    is_over: bool,
}

impl Serving {
    fn run(mut self) {
        let agent = Arc::clone(&self.agent);
        while let Some((connection, request)) = agent.updates.next() {
            let is_reload = request.update_type == ConfigUpdateType::RequestReload;
            let handler = agent.audience.updates.load_full();
            let response = handler.handle_from(&agent.id, request);
            if is_reload && response.accepted {
                agent.reload_wanted.store(true, Ordering::Release);
                agent.request_upkeep();
            }
            connection.respond(response);
        }
        self.is_over = true;
    }
}

impl Drop for Serving {
    fn drop(&mut self) {
        if !self.is_over {
            self.agent.updates.waiting().is_served = false;
        }
    }
}
