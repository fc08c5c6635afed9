//! Chooses a connection for an event, without locks, allocations or waiting.

use super::config::LoadBalanceStrategy;
use super::connection_set::Group;
use super::member::Snapshot;
use crate::connection::{CallEnd, Connection, Correlation, RuntimeId};
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// Factor by which the load of a connection counts if its agent reports that it is degraded. In
/// turn, it is taken only once in this many rounds.
const DEGRADED_WEIGHT: usize = 4;

impl Snapshot {
    /// Chooses the connection for the next event of an exchange.
    ///
    /// A connection that has a free slot is preferred to one where the event would wait.
    pub(super) fn choose(
        &self,
        strategy: LoadBalanceStrategy,
        correlation: Correlation<'_>,
    ) -> Result<&Arc<Connection>, CallEnd> {
        let usable = |connection: &Connection| can_take_event(connection, correlation);
        match self.connections.all().choose(strategy, usable) {
            Some(connection) => Ok(connection),
            None => self.choose_failing(correlation),
        }
    }

    /// Chooses among connections on which too many calls in a row failed.
    ///
    /// For a moment they are better than none: otherwise, whoever sends requests on which an agent
    /// takes too long could make it unavailable to everybody until it has answered a ping.
    #[cold]
    fn choose_failing(&self, correlation: Correlation<'_>) -> Result<&Arc<Connection>, CallEnd> {
        let usable = |connection: &&Arc<Connection>| {
            connection.is_last_resort() && is_free_for(connection, correlation)
        };
        self.connections()
            .iter()
            .find(usable)
            .ok_or_else(|| self.why_none(correlation))
    }

    /// Like [`Snapshot::choose`], but prefers a connection that `runtime` serves if it has a free
    /// slot.
    pub(super) fn choose_near(
        &self,
        runtime: RuntimeId,
        strategy: LoadBalanceStrategy,
        correlation: Correlation<'_>,
    ) -> Result<&Arc<Connection>, CallEnd> {
        let usable = |connection: &Connection| can_take_event(connection, correlation);
        match self.choose_at(runtime, strategy, usable) {
            Some(own) => Ok(own),
            None => self.choose(strategy, correlation),
        }
    }

    /// Returns why an event of an exchange gets no slot although a connection was chosen for it.
    ///
    /// Usually all slots are taken. If a slot is free that only this exchange cannot use, the event
    /// must not wait for another one: at the head of the queue, it would keep the calls behind it
    /// from using that slot.
    #[cold]
    pub(super) fn why_no_slot(&self, correlation: Correlation<'_>) -> CallEnd {
        let mut with_slot = self
            .connections()
            .iter()
            .filter(|connection| connection.is_healthy() && connection.calls.has_free_slot());
        let not_opened =
            with_slot.find_map(|connection| match connection.flow.check(correlation.key) {
                Ok(()) => (!connection.calls.is_free_for(correlation)).then_some(CallEnd::Busy),
                Err(not_opened) => (not_opened == CallEnd::ExchangePaused).then_some(not_opened),
            });
        not_opened.unwrap_or(CallEnd::Full)
    }

    /// Chooses the connection for an exchange whose first event may wait for the end of a pause.
    pub(super) fn choose_paused(
        &self,
        near: Option<RuntimeId>,
        strategy: LoadBalanceStrategy,
    ) -> Result<&Arc<Connection>, CallEnd> {
        near.and_then(|runtime| self.choose_at(runtime, strategy, Connection::is_healthy))
            .or_else(|| {
                self.connections
                    .all()
                    .choose(strategy, Connection::is_healthy)
            })
            .or_else(|| {
                let mut all = self.connections().iter();
                all.find(|connection| connection.is_last_resort())
            })
            .ok_or(CallEnd::Unavailable)
    }

    /// Chooses among the connections that a runtime serves. Returns `None` unless one has a free
    /// slot.
    fn choose_at(
        &self,
        runtime: RuntimeId,
        strategy: LoadBalanceStrategy,
        usable: impl Fn(&Connection) -> bool,
    ) -> Option<&Arc<Connection>> {
        let own = self.connections.served_by(runtime)?;
        own.choose(strategy, usable)
            .filter(|connection| connection.calls.has_free_slot())
    }

    /// Returns the reason why no connection is usable.
    ///
    /// If several connections are unusable for different reasons, the reason that another event or
    /// a short wait could remove comes first: busy, then paused for this exchange, then paused.
    fn why_none(&self, correlation: Correlation<'_>) -> CallEnd {
        let available = || {
            self.connections()
                .iter()
                .filter(|connection| connection.is_last_resort())
        };
        if self
            .connections()
            .iter()
            .any(|connection| connection.lifecycle.is_retired())
        {
            // Connections are retired only once they have left the snapshot, so the caller's
            // snapshot is outdated. This result makes the caller load the new one and choose
            // again.
            return CallEnd::ConnectionClosed;
        }
        if available().next().is_none() {
            return CallEnd::Unavailable;
        }
        let mut not_opened = CallEnd::Paused;
        for connection in available() {
            match connection.flow.check(correlation.key) {
                // Available and not paused, and yet not usable: an event of the exchange is
                // unanswered.
                Ok(()) => return CallEnd::Busy,
                Err(CallEnd::ExchangePaused) => not_opened = CallEnd::ExchangePaused,
                Err(_) => {}
            }
        }
        not_opened
    }
}

impl<'r> Group<'r> {
    /// Chooses a usable connection, one with a free slot if there is one.
    ///
    /// The search starts at the cursor and goes once around, so that ties go to the next connection
    /// in turn instead of always to the first.
    fn choose(
        self,
        strategy: LoadBalanceStrategy,
        usable: impl Fn(&Connection) -> bool,
    ) -> Option<&'r Arc<Connection>> {
        let keeps = |connection: &Connection| {
            (self.prefers_batching && connection.is_batching())
                || (self.has_cheap && connection.is_awake())
        };
        if (self.prefers_batching || self.has_cheap)
            && strategy == LoadBalanceStrategy::RoundRobin
            && let Some(last) = self.last(|connection| keeps(connection) && usable(connection))
        {
            return Some(last);
        }
        let cursor = self.next_cursor(strategy);
        let candidates = || {
            let usable = &usable;
            let count = self.connections.len().max(1);
            let (before, from) = self.connections.split_at(cursor % count);
            from.iter()
                .chain(before)
                .filter(move |connection| usable(connection))
        };
        match strategy {
            LoadBalanceStrategy::RoundRobin | LoadBalanceStrategy::Random => {
                // A degraded connection is skipped in most rounds, then taken if no other has a
                // free slot, and last comes the one with the fewest calls, where the event waits.
                let in_turn = |connection: &&Arc<Connection>| {
                    let round = cursor / self.connections.len().max(1);
                    let has_turn =
                        !connection.health.is_degraded() || round.is_multiple_of(DEGRADED_WEIGHT);
                    has_turn && connection.calls.has_free_slot()
                };
                candidates()
                    .find(in_turn)
                    .or_else(|| candidates().find(|connection| connection.calls.has_free_slot()))
                    .or_else(|| candidates().min_by_key(|one| one.calls.slots.pending()))
            }
            LoadBalanceStrategy::LeastConnections => {
                candidates().min_by_key(|connection| load(connection))
            }
            LoadBalanceStrategy::HealthBased => candidates().min_by_key(|connection| {
                (
                    !connection.calls.has_free_slot(),
                    connection.health.is_degraded(),
                    connection.calls.slots.pending(),
                )
            }),
        }
    }

    /// Returns the connection of the previous choice if `keeps` holds and it can take one more
    /// call. The cursor stays, so that the calls that follow join as well.
    fn last(self, keeps: impl Fn(&Connection) -> bool) -> Option<&'r Arc<Connection>> {
        let last = self.cursor.load(Ordering::Relaxed).wrapping_sub(1);
        let connection = &self.connections.get(last % self.connections.len().max(1))?;
        let can_join = connection.calls.has_free_slot()
            && !connection.health.is_degraded()
            && keeps(connection);
        can_join.then_some(connection)
    }

    /// Returns the position where the search starts, modulo the number of connections.
    fn next_cursor(self, strategy: LoadBalanceStrategy) -> usize {
        match strategy {
            LoadBalanceStrategy::Random => fastrand::usize(..),
            _ => self.cursor.fetch_add(1, Ordering::Relaxed),
        }
    }
}

/// Returns whether a healthy connection can take the next event of an exchange, at once or once it
/// has a free slot.
fn can_take_event(connection: &Connection, correlation: Correlation<'_>) -> bool {
    connection.is_healthy() && is_free_for(connection, correlation)
}

/// Returns whether neither a pause nor a missing answer keeps a connection from taking the next
/// event of an exchange.
fn is_free_for(connection: &Connection, correlation: Correlation<'_>) -> bool {
    connection.flow.check(correlation.key).is_ok() && connection.calls.is_free_for(correlation)
}

/// Returns the number of pending calls, weighted for degraded agents.
fn load(connection: &Connection) -> usize {
    let in_flight = connection.calls.slots.pending();
    if connection.health.is_degraded() {
        (in_flight + 1) * DEGRADED_WEIGHT
    } else {
        in_flight
    }
}
