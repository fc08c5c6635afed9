//! Choosing a connection: no lock, no allocation, no waiting.

use super::agents::AgentEntry;
use super::config::LoadBalanceStrategy;
use crate::connection::{Connection, Correlation};
use crate::error::AgentProtocolError;
use std::sync::Arc;
use std::sync::atomic::Ordering;

impl AgentEntry {
    /// The connection that the next event of an exchange takes.
    ///
    /// One that can take the event at once comes before one that makes it wait for a slot.
    pub(super) fn choose(
        &self,
        strategy: LoadBalanceStrategy,
        correlation: Correlation<'_>,
    ) -> Result<&Arc<Connection>, AgentProtocolError> {
        let first = self.first_place(strategy);
        let candidates = || {
            let (before, from) = self.connections().split_at(first);
            from.iter()
                .chain(before)
                .filter(|connection| connection.is_usable(correlation))
        };
        match strategy {
            LoadBalanceStrategy::RoundRobin | LoadBalanceStrategy::Random => candidates()
                .find(|connection| connection.has_room())
                .or_else(|| candidates().min_by_key(|connection| connection.in_flight())),
            LoadBalanceStrategy::LeastConnections => {
                candidates().min_by_key(|connection| connection.in_flight())
            }
            LoadBalanceStrategy::HealthBased => candidates().min_by_key(|connection| {
                (
                    !connection.has_room(),
                    connection.reported_health(),
                    connection.in_flight(),
                )
            }),
        }
        .ok_or_else(|| self.why_none(correlation))
    }

    /// Where the search begins; ties go to the connection found first.
    fn first_place(&self, strategy: LoadBalanceStrategy) -> usize {
        let count = self.connections().len().max(1);
        match strategy {
            LoadBalanceStrategy::Random => fastrand::usize(..count),
            _ => self.turn.fetch_add(1, Ordering::Relaxed) % count,
        }
    }

    fn why_none(&self, correlation: Correlation<'_>) -> AgentProtocolError {
        let agent_id = Arc::clone(self.id());
        if !self.is_available() {
            return AgentProtocolError::Unavailable { agent_id };
        }
        if self
            .open_connections()
            .all(|connection| !connection.admits(correlation))
        {
            return AgentProtocolError::FlowControlPaused { agent_id };
        }
        AgentProtocolError::CorrelationBusy {
            agent_id,
            correlation_id: correlation.id.to_owned(),
        }
    }
}
