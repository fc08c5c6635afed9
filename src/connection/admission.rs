use super::call::Hold;
use super::slots::{OpenError, SlotTable, Ticket};
use super::{CallFailure, Connection, Correlation, Reply};
use crate::error::AgentProtocolError;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};
use tokio::time::timeout_at;

/// A call on its way to a slot.
pub(super) struct Admission<'a, H> {
    pub(super) connection: &'a H,
    pub(super) correlation: Correlation<'a>,
    pub(super) deadline: Instant,
    /// The time that the deadline was set to, for the error.
    pub(super) timeout: Duration,
}

type Opened<H> = Result<Ticket<<H as Hold>::Slots, Reply>, AgentProtocolError>;

impl<H: Hold> Admission<'_, H> {
    /// Opens a slot, waiting in line if none is free.
    pub(super) async fn open_slot(&self) -> Opened<H> {
        let room = self.connection.slots.room();
        if let Some(opened) = room.try_pass(|| self.attempt()) {
            return opened;
        }
        timeout_at(self.deadline.into(), room.pass(|| self.attempt()))
            .await
            .map_err(|_| self.connection.timeout_error(self.timeout))?
    }

    /// `None` if every slot is taken.
    fn attempt(&self) -> Option<Opened<H>> {
        let (connection, correlation) = (&**self.connection, self.correlation);
        if !connection.is_open() {
            return Some(Err(connection.closed_error()));
        }
        if !connection.admits(correlation) {
            return Some(Err(AgentProtocolError::FlowControlPaused {
                agent_id: Arc::clone(&connection.agent.id),
            }));
        }
        // Coarse time: a deadline is never found before it is over.
        let ticks = connection.ticks(self.deadline).saturating_add(1);
        let slots = self.connection.slots();
        let ticket = match SlotTable::open(slots, correlation.id, correlation.key, ticks) {
            Ok(ticket) => ticket,
            Err(OpenError::Full) => return None,
            Err(OpenError::SameId) => return Some(Err(connection.busy_error(correlation.id))),
        };
        // Again, now that the slot is in the table: see `Connection::close`.
        if !connection.is_open() {
            return Some(Err(connection.closed_error()));
        }
        if connection.unanswered.contains(correlation.key) {
            // The missing answer may have come between these two lines.
            if ticket.abandon().is_some_and(|reply| is_answer(&reply)) {
                connection.unanswered.remove(correlation.key);
            }
            return Some(Err(connection.busy_error(correlation.id)));
        }
        connection.start_sweeping();
        Some(Ok(ticket))
    }
}

impl Connection {
    /// Has [`Inbound`](super::Inbound) look for passed deadlines, if it does not do so yet.
    fn start_sweeping(&self) {
        if !self.sweeping.load(Ordering::Relaxed) && !self.sweeping.swap(true, Ordering::AcqRel) {
            self.inbound.wake();
        }
    }

    fn busy_error(&self, correlation_id: &str) -> AgentProtocolError {
        AgentProtocolError::CorrelationBusy {
            agent_id: Arc::clone(&self.agent.id),
            correlation_id: correlation_id.to_owned(),
        }
    }
}

/// Whether the agent has answered, so that no other answer to this call can come.
pub(super) fn is_answer(reply: &Reply) -> bool {
    matches!(reply, Ok(_) | Err(CallFailure::Undecodable(_)))
}
