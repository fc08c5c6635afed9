//! Choosing a connection: no lock, no allocation, no waiting.

use super::agents::AgentEntry;
use super::config::LoadBalanceStrategy;
use super::rotation::Group;
use crate::connection::{Connection, Correlation, Home, Refusal};
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// How many times the load a connection seems to have whose agent reports that it is degraded; it gets one
/// in so many of its turns.
const DEGRADED_WEIGHT: usize = 4;

impl AgentEntry {
    /// The connection that the next event of an exchange takes.
    ///
    /// One that can take the event at once comes before one that makes it wait for a slot.
    pub(super) fn choose(
        &self,
        strategy: LoadBalanceStrategy,
        correlation: Correlation<'_>,
    ) -> Result<&Arc<Connection>, Refusal> {
        let all = self.rotation.all();
        all.choose(strategy, |connection| is_usable(connection, correlation))
            .ok_or_else(|| self.why_none(correlation))
    }

    /// The same, but among those that can take the event at once one that `home` serves comes before others.
    pub(super) fn choose_near(
        &self,
        home: Home,
        strategy: LoadBalanceStrategy,
        correlation: Correlation<'_>,
    ) -> Result<&Arc<Connection>, Refusal> {
        let usable = |connection: &Connection| is_usable(connection, correlation);
        match self.choose_at(home, strategy, usable) {
            Some(own) => Ok(own),
            None => self.choose(strategy, correlation),
        }
    }

    /// The connection for an exchange whose first event may wait for the end of a pause.
    pub(super) fn choose_paused(
        &self,
        near: Option<Home>,
        strategy: LoadBalanceStrategy,
    ) -> Result<&Arc<Connection>, Refusal> {
        near.and_then(|home| self.choose_at(home, strategy, Connection::is_healthy))
            .or_else(|| self.rotation.all().choose(strategy, Connection::is_healthy))
            .ok_or(Refusal::Unavailable)
    }

    /// One that a runtime serves and that makes nobody wait.
    fn choose_at(
        &self,
        home: Home,
        strategy: LoadBalanceStrategy,
        usable: impl Fn(&Connection) -> bool,
    ) -> Option<&Arc<Connection>> {
        let own = self.rotation.served_by(home)?;
        own.choose(strategy, usable)
            .filter(|connection| connection.has_room())
    }

    fn why_none(&self, correlation: Correlation<'_>) -> Refusal {
        let healthy = || {
            self.connections()
                .iter()
                .filter(|connection| connection.is_healthy())
        };
        if self
            .connections()
            .iter()
            .any(|connection| connection.is_retired())
        {
            // This snapshot is outdated.
            return Refusal::Closed;
        }
        if healthy().next().is_none() {
            return Refusal::Unavailable;
        }
        let mut refusal = Refusal::Paused;
        for connection in healthy() {
            match connection.check_flow(correlation) {
                Ok(()) => return Refusal::Busy,
                Err(Refusal::ExchangePaused) => refusal = Refusal::ExchangePaused,
                Err(_) => {}
            }
        }
        refusal
    }
}

impl<'r> Group<'r> {
    fn choose(
        self,
        strategy: LoadBalanceStrategy,
        usable: impl Fn(&Connection) -> bool,
    ) -> Option<&'r Arc<Connection>> {
        if self.is_costly
            && strategy == LoadBalanceStrategy::RoundRobin
            && let Some(gathering) = self.gathering(&usable)
        {
            return Some(gathering);
        }
        let turn = self.next_turn(strategy);
        let candidates = || {
            let usable = &usable;
            let count = self.connections.len().max(1);
            let (before, from) = self.connections.split_at(turn % count);
            from.iter()
                .chain(before)
                .filter(move |connection| usable(connection))
        };
        match strategy {
            LoadBalanceStrategy::RoundRobin | LoadBalanceStrategy::Random => {
                let in_turn = |connection: &&Arc<Connection>| {
                    let round = turn / self.connections.len().max(1);
                    let has_turn = !connection.condition().is_degraded()
                        || round.is_multiple_of(DEGRADED_WEIGHT);
                    has_turn && connection.has_room()
                };
                candidates()
                    .find(in_turn)
                    .or_else(|| candidates().find(|connection| connection.has_room()))
                    .or_else(|| candidates().min_by_key(|connection| connection.in_flight()))
            }
            LoadBalanceStrategy::LeastConnections => {
                candidates().min_by_key(|connection| load(connection))
            }
            LoadBalanceStrategy::HealthBased => candidates().min_by_key(|connection| {
                (
                    !connection.has_room(),
                    connection.condition().is_degraded(),
                    connection.in_flight(),
                )
            }),
        }
    }

    /// The connection that the last call has taken, if another call can go along with those that wait there.
    fn gathering(self, usable: impl Fn(&Connection) -> bool) -> Option<&'r Arc<Connection>> {
        let last = self.turn.load(Ordering::Relaxed).wrapping_sub(1);
        let connection = &self.connections.get(last % self.connections.len().max(1))?;
        let joins = connection.gathers()
            && connection.has_room()
            && !connection.condition().is_degraded()
            && usable(connection);
        joins.then_some(connection)
    }

    /// Where the search begins; ties go to the connection found first.
    fn next_turn(self, strategy: LoadBalanceStrategy) -> usize {
        match strategy {
            LoadBalanceStrategy::Random => fastrand::usize(..),
            _ => self.turn.fetch_add(1, Ordering::Relaxed),
        }
    }
}

/// Whether the next event of an exchange may take a connection.
fn is_usable(connection: &Connection, correlation: Correlation<'_>) -> bool {
    connection.is_healthy()
        && connection.check_flow(correlation).is_ok()
        && connection.is_free_for(correlation)
}

/// How busy a connection is.
fn load(connection: &Connection) -> usize {
    let in_flight = connection.in_flight();
    if connection.condition().is_degraded() {
        (in_flight + 1) * DEGRADED_WEIGHT
    } else {
        in_flight
    }
}
