//! Sends notices to the connected proxies.

use super::session_handle::{Epochs, Notice, OncePerProxy, SessionHandle};
use crate::connection::Origin;
use crate::lock::lock;
use crate::memory::{DEFAULT_LIMIT, MemoryBudget};
use crate::protocol::{
    ConfigUpdateRequest, ConfigUpdateResponse, DrainReason, DrainRequest, FlowControl,
    FlowControlAction, HealthStatus, LogMessage, MetricsReport,
};
use crate::transport::{Peer, PeerKey};
use std::cmp::Reverse;
use std::collections::{HashMap, VecDeque};
use std::future::pending;
use std::sync::{Arc, Mutex, Weak};
use std::time::Duration;
use tokio::sync::broadcast;
use tokio::time::{sleep, timeout};

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
    /// [`on_config_update_response`](crate::AgentHandler::on_config_update_response).
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
        lock(&self.sessions)
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
        let session = Arc::new(SessionHandle::new(
            origin,
            peer,
            Arc::clone(&self.epochs),
            self.responses.clone(),
            self.memory.clone(),
        ));
        let mut sessions = lock(&self.sessions);
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

    /// Asks the proxies on accepted connections to move to other ones, and makes the sessions of
    /// those that cannot be asked end once they are silent for `silence`. Waits until all have
    /// ended, and serves them meanwhile.
    pub(super) async fn move_away(&self, silence: Duration) {
        let request = DrainRequest::new(0, DrainReason::Maintenance);
        self.for_each_session(|session| {
            session.take_received();
            session.notify(Notice::Drain(request));
        });
        loop {
            sleep(silence).await;
            let mut remain = false;
            self.for_each_session(|session| {
                remain |= session.origin == Origin::Forward;
                if session.origin == Origin::Forward
                    && !session.can_be_moved()
                    && !session.take_received()
                {
                    session.drain();
                }
            });
            if !remain {
                return;
            }
        }
    }

    /// Makes silent sessions end until there are `places` places free or about to be, each time
    /// the oldest of the peer that has most of them. Returns how many.
    ///
    /// A session is silent if it has sent no event yet, or none for a whole epoch. A session with
    /// unfinished events answers them before it ends.
    pub(super) fn make_room(&self, places: usize) -> usize {
        let epoch = self.epochs.advance();
        let mut leaving = 0;
        let mut silent = HashMap::<PeerKey, VecDeque<_>>::new();
        for (age, session) in lock(&self.sessions).iter().enumerate() {
            let Some(session) = session.upgrade().filter(|session| session.has_place()) else {
                continue;
            };
            if session.is_draining() {
                leaving += 1;
            } else if session.is_silent(epoch) {
                let of_peer = silent.entry(session.peer_key()).or_default();
                of_peer.push_back((Reverse(age), session));
            }
        }
        let mut drained = 0;
        while leaving + drained < places
            && let Some((_, session)) = silent
                .values_mut()
                .max_by_key(|of_peer| (of_peer.len(), of_peer.front().map(|(age, _)| *age)))
                .and_then(VecDeque::pop_front)
        {
            session.drain();
            drained += 1;
        }
        drained
    }

    fn broadcast(&self, notice: &Notice) {
        self.for_each_session(|session| {
            session.send(notice);
        });
    }

    fn notify_each_proxy(&self, notice: &Notice) {
        let once = Arc::new(OncePerProxy::of(notice.clone()));
        self.for_each_session(|session| session.send_once(&once));
    }

    fn for_each_session(&self, mut action: impl FnMut(&SessionHandle)) {
        for session in lock(&self.sessions).iter().filter_map(Weak::upgrade) {
            action(&session);
        }
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

#[cfg(test)]
#[path = "../../tests/unit/agent/control.rs"]
mod tests;
