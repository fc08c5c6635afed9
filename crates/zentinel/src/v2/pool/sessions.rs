//! The sticky sessions of a pool.

use super::AgentPoolConfig;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant};
use tokio::runtime::Handle;
use tokio::time::sleep;
use tollgate::Exchange;

/// Shortest interval between two removals of ended sessions, whatever is configured.
const MIN_INTERVAL: Duration = Duration::from_millis(1);

/// Sessions by their ids.
///
/// Exchanges are dropped after the lock is released.
pub(super) struct Sessions {
    max: usize,
    timeout: Option<Duration>,
    cleanup_interval: Duration,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    by_id: HashMap<String, Session>,
    /// Number of shutdowns in progress. While there is one, no session begins.
    shutdowns: usize,
    /// Set while a [`Cleaner`] exists.
    is_cleaned: bool,
}

struct Session {
    /// Keeps the connection in use. Nothing is sent as part of this exchange itself.
    exchange: Arc<Exchange>,
    last_used: Instant,
}

/// Reason why a session did not begin.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Refused {
    /// The exchange has no connection, or it has closed.
    NotOpen,
    /// The pool is shutting down.
    Closed,
    Full {
        limit: usize,
    },
}

impl Sessions {
    pub(super) fn new(config: &AgentPoolConfig) -> Self {
        Self {
            max: config.max_correlation_affinities,
            timeout: config.sticky_session_timeout,
            cleanup_interval: config.health_check_interval.max(MIN_INTERVAL),
            state: Mutex::default(),
        }
    }

    /// Begins a session, in place of one that has the same id.
    pub(super) fn begin(self: &Arc<Self>, id: String, exchange: Exchange) -> Result<(), Refused> {
        if !exchange.is_open() {
            return Err(Refused::NotOpen);
        }
        let session = Session {
            exchange: Arc::new(exchange),
            last_used: Instant::now(),
        };
        let replaced = {
            let mut state = self.lock();
            if state.shutdowns > 0 {
                return Err(Refused::Closed);
            }
            if state.by_id.len() >= self.max && !state.by_id.contains_key(&id) {
                return Err(Refused::Full { limit: self.max });
            }
            state.by_id.insert(id, session)
        };
        drop(replaced);
        self.start_cleaning();
        Ok(())
    }

    /// Returns the exchange of a session, and marks the session as used. Removes it if it has
    /// ended.
    pub(super) fn get(&self, id: &str) -> Option<Arc<Exchange>> {
        let now = Instant::now();
        let mut state = self.lock();
        let session = state.by_id.get_mut(id)?;
        if !self.has_ended(session, now) {
            session.last_used = now;
            return Some(Arc::clone(&session.exchange));
        }
        let ended = state.by_id.remove(id);
        drop(state);
        drop(ended);
        None
    }

    pub(super) fn end(&self, id: &str) {
        let ended = self.lock().by_id.remove(id);
        drop(ended);
    }

    /// Ends all sessions with an agent.
    pub(super) fn end_all_of(&self, agent_id: &str) {
        self.remove(|session| session.exchange.agent_id() == agent_id);
    }

    /// Removes the sessions that have expired or whose connection has closed. Returns their number.
    pub(super) fn remove_ended(&self) -> usize {
        let now = Instant::now();
        self.remove(|session| self.has_ended(session, now))
    }

    pub(super) fn len(&self) -> usize {
        self.lock().by_id.len()
    }

    /// Ends all sessions. No session begins until the returned guard is dropped.
    pub(super) fn close(&self) -> ClosedGuard<'_> {
        let mut state = self.lock();
        state.shutdowns += 1;
        let ended = std::mem::take(&mut state.by_id);
        drop(state);
        drop(ended);
        ClosedGuard(self)
    }

    fn remove(&self, mut is_over: impl FnMut(&Session) -> bool) -> usize {
        let removed: Vec<_> = {
            let mut state = self.lock();
            let over = state.by_id.extract_if(|_, session| is_over(session));
            over.collect()
        };
        removed.len()
    }

    fn has_ended(&self, session: &Session, now: Instant) -> bool {
        let idle = now.saturating_duration_since(session.last_used);
        self.timeout.is_some_and(|timeout| idle >= timeout) || !session.exchange.is_open()
    }

    /// Starts the task that removes ended sessions, unless it exists or this is not a runtime.
    fn start_cleaning(self: &Arc<Self>) {
        let Ok(runtime) = Handle::try_current() else {
            return;
        };
        if std::mem::replace(&mut self.lock().is_cleaned, true) {
            return;
        }
        // A runtime that shuts down drops the task at once, which takes the lock.
        runtime.spawn(Cleaner(Arc::downgrade(self)).run(self.cleanup_interval));
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // The map is consistent after every statement.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Sessions of a pool that is shutting down.
pub(super) struct ClosedGuard<'a>(&'a Sessions);

impl Drop for ClosedGuard<'_> {
    fn drop(&mut self) {
        self.0.lock().shutdowns -= 1;
    }
}

/// Removes ended sessions until the pool is dropped or the runtime ends.
struct Cleaner(Weak<Sessions>);

impl Cleaner {
    async fn run(self, interval: Duration) {
        loop {
            sleep(interval).await;
            let Some(sessions) = self.0.upgrade() else {
                return;
            };
            sessions.remove_ended();
        }
    }
}

impl Drop for Cleaner {
    fn drop(&mut self) {
        if let Some(sessions) = self.0.upgrade() {
            sessions.lock().is_cleaned = false;
        }
    }
}
