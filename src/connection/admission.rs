use super::call::{PendingCall, is_answer};
use super::refusal::Refusal;
use super::slots::{OpenError, SlotTable, Ticket};
use super::time_limit::{TimeLimit, nanoseconds};
use super::{Connection, Correlation, NANOSECONDS_PER_TICK, Reply};
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// Whether a call could take another connection instead.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Binding {
    /// Its exchange is bound to this one.
    Bound,
    Free,
}

impl Connection {
    /// Opens a call, if its event can be sent now.
    pub(crate) fn open_call(
        self: &Arc<Self>,
        correlation: Correlation<'_>,
        binding: Binding,
        limit: TimeLimit,
    ) -> Result<PendingCall, Refusal> {
        if !self.takes(binding) {
            return Err(Refusal::Closed);
        }
        self.flow.check(correlation.key)?;
        let breaker = &self.agent.breaker;
        let pass = breaker.admit().ok_or(Refusal::CircuitOpen)?;
        let limit = limit.stretched(self.condition.stretch());
        match self.open_slot(correlation, binding, limit) {
            Ok(ticket) => Ok(PendingCall::new(ticket, correlation, limit, pass)),
            Err(refusal) => {
                breaker.undecided(pass);
                Err(refusal)
            }
        }
    }

    fn open_slot(
        self: &Arc<Self>,
        correlation: Correlation<'_>,
        binding: Binding,
        limit: TimeLimit,
    ) -> Result<Ticket<Arc<Self>, Reply>, Refusal> {
        // Coarse time: a deadline is never found before it is over.
        let began = self.nanoseconds(limit.started);
        let deadline = self.deadline_ticks(limit, began).saturating_add(1);
        let opened = SlotTable::open(Arc::clone(self), correlation.id, correlation.key, deadline);
        let mut ticket = opened.map_err(|error| match error {
            OpenError::Full => Refusal::Full,
            OpenError::SameId => Refusal::Busy,
        })?;
        // Again, now that the slot is in the table: see `Connection::close` and `Connection::retire`.
        if !self.takes(binding) {
            return Err(Refusal::Closed);
        }
        if self.unanswered.contains(correlation.key) {
            // The missing answer may have come between these two lines.
            if ticket.abandon().is_some_and(|reply| is_answer(&reply)) {
                self.unanswered.remove(correlation.key);
            }
            return Err(Refusal::Busy);
        }
        self.start_sweeping();
        self.last_used
            .store(began / NANOSECONDS_PER_TICK, Ordering::Relaxed);
        Ok(ticket)
    }

    /// The deadline of a call that began so many nanoseconds after the connection.
    fn deadline_ticks(&self, limit: TimeLimit, began: u64) -> u64 {
        if began == 0 {
            // The call may be older than the connection.
            return self.ticks(limit.deadline());
        }
        began.saturating_add(nanoseconds(limit.timeout())) / NANOSECONDS_PER_TICK
    }

    fn takes(&self, binding: Binding) -> bool {
        self.is_open() && (binding == Binding::Bound || !self.is_retired())
    }

    /// Has [`Inbound`](super::Inbound) look for passed deadlines, if it does not do so yet.
    fn start_sweeping(&self) {
        if !self.sweeping.load(Ordering::Relaxed) && !self.sweeping.swap(true, Ordering::AcqRel) {
            self.inbound.wake();
        }
    }
}
