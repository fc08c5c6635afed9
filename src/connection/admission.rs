//! Opening a call: the checks that decide whether its event may be sent now.

use super::call::{PendingCall, is_answer};
use super::call_end::CallEnd;
use super::slots::{OpenError, SlotTable, Ticket};
use super::time_limit::{TimeLimit, nanoseconds};
use super::{Connection, Correlation, NANOSECONDS_PER_TICK, SlotValue};
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// Relation of a call's exchange to the connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Binding {
    /// The exchange is bound to this connection.
    Bound,
    /// The call could use another connection instead.
    Free,
}

impl Connection {
    /// Opens a call if its event can be sent now.
    pub(crate) fn open_call(
        self: &Arc<Self>,
        correlation: Correlation<'_>,
        binding: Binding,
        limit: TimeLimit,
    ) -> Result<PendingCall, CallEnd> {
        if !self.accepts(binding) {
            return Err(CallEnd::ConnectionClosed);
        }
        self.flow.check(correlation.key)?;
        let breaker = &self.agent.breaker;
        let permit = breaker.try_acquire().ok_or(CallEnd::CircuitOpen)?;
        let limit = limit.scaled_by(self.health.timeout_factor());
        match self.open_slot(correlation, binding, limit) {
            Ok(ticket) => Ok(PendingCall::new(ticket, correlation, limit, permit)),
            Err(not_opened) => {
                breaker.release(permit);
                Err(not_opened)
            }
        }
    }

    fn open_slot(
        self: &Arc<Self>,
        correlation: Correlation<'_>,
        binding: Binding,
        limit: TimeLimit,
    ) -> Result<Ticket<Arc<Self>, SlotValue>, CallEnd> {
        // Deadlines are rounded up to the next tick, so that a call never expires early.
        let started_ns = self.nanoseconds(limit.started);
        let deadline = self.deadline_ticks(limit, started_ns).saturating_add(1);
        let opened = SlotTable::open(Arc::clone(self), correlation.id, correlation.key, deadline);
        let mut ticket = opened.map_err(|error| match error {
            OpenError::Full => CallEnd::Full,
            OpenError::SameId => CallEnd::Busy,
        })?;
        // Checked again now that the slot is in the table: see `Connection::close` and
        // `Connection::retire`.
        if !self.accepts(binding) {
            return Err(CallEnd::ConnectionClosed);
        }
        if self.expected_late_answers.contains(correlation.key) {
            // The missing answer may have arrived since the slot was opened, and filled it.
            if ticket.abandon().is_some_and(|value| is_answer(&value)) {
                self.expected_late_answers.remove(correlation.key);
            }
            return Err(CallEnd::Busy);
        }
        self.start_sweeping();
        self.last_used
            .store(started_ns / NANOSECONDS_PER_TICK, Ordering::Relaxed);
        Ok(ticket)
    }

    /// Returns the deadline of a call that started `started_ns` nanoseconds after `epoch`.
    fn deadline_ticks(&self, limit: TimeLimit, started_ns: u64) -> u64 {
        if started_ns == 0 {
            // The call may have started before `epoch`, so its deadline is computed from the limit.
            return self.ticks(limit.deadline());
        }
        started_ns.saturating_add(nanoseconds(limit.timeout())) / NANOSECONDS_PER_TICK
    }

    fn accepts(&self, binding: Binding) -> bool {
        self.is_open() && (binding == Binding::Bound || !self.is_retired())
    }

    /// Makes [`Inbound`](super::Inbound) check deadlines, unless it already does.
    fn start_sweeping(&self) {
        if !self.is_sweeping.load(Ordering::Relaxed)
            && !self.is_sweeping.swap(true, Ordering::AcqRel)
        {
            self.inbound_waker.wake();
        }
    }
}
