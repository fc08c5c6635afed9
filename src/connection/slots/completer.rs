//! The completing side of a slot table.

use super::{CLAIMED, READY, SlotTable, WAITING, stream_id};
use crate::connection::sync::Ordering;
use crate::wire::StreamId;
use std::sync::Arc;

/// Completes the calls of a table. Each table has one.
#[derive(Debug)]
pub(crate) struct Completer<T> {
    table: Arc<SlotTable<T>>,
    /// Time at which the current values were received, in a unit of the user.
    received: u64,
}

impl<T> Completer<T> {
    /// Creates the completer of a table. The caller must not create another.
    pub(super) fn new(table: Arc<SlotTable<T>>) -> Self {
        Self { table, received: 0 }
    }

    /// Sets the time at which the following values were received, for
    /// [`Ticket::received`](super::Ticket::received).
    pub(crate) fn note_received(&mut self, at: u64) {
        self.received = at;
    }

    /// Completes the call with this id. Returns the value if there is no such call.
    pub(crate) fn complete(&mut self, id: &str, key: u64, value: T) -> Result<(), T> {
        let table = Arc::clone(&self.table);
        for index in table.candidates(key) {
            if self.claim(index, |completer| completer.id_of(index) == id) {
                return self.fill(index, value);
            }
        }
        Err(value)
    }

    /// Completes the call with this stream id. Returns the value if there is no such call.
    pub(crate) fn complete_stream(&mut self, stream: StreamId, value: T) -> Result<(), T> {
        let Some(index) = self.index_of(stream) else {
            return Err(value);
        };
        if self.claim(index, |completer| completer.stream_of(index) == stream) {
            return self.fill(index, value);
        }
        Err(value)
    }

    /// Returns whether any call, pending or ended, has had this stream id.
    pub(crate) fn has_seen(&self, stream: StreamId) -> bool {
        self.index_of(stream)
            .is_some_and(|index| stream.0 >> 32 != 0 && stream.0 <= self.stream_of(index).0)
    }

    /// Completes every call with this id. Returns their number.
    pub(crate) fn complete_each(
        &mut self,
        id: &str,
        key: u64,
        mut value: impl FnMut() -> T,
    ) -> usize {
        let table = Arc::clone(&self.table);
        let mut completed = 0;
        for index in table.candidates(key) {
            if self.claim(index, |completer| completer.id_of(index) == id) {
                completed += usize::from(self.fill(index, value()).is_ok());
            }
        }
        completed
    }

    /// Completes every call whose deadline is at or before `now`. Returns their number.
    pub(crate) fn expire(&mut self, now: u64, value: impl FnMut(&str) -> T) -> usize {
        self.complete_where(|deadline| deadline <= now, value)
    }

    /// Completes every pending call. `value` is given the call's id. Returns their number.
    pub(crate) fn complete_all(&mut self, value: impl FnMut(&str) -> T) -> usize {
        self.complete_where(|_| true, value)
    }

    fn complete_where(
        &mut self,
        selects: impl Fn(u64) -> bool,
        mut value: impl FnMut(&str) -> T,
    ) -> usize {
        let table = Arc::clone(&self.table);
        let mut completed = 0;
        for index in table.occupied.taken() {
            let is_selected = || selects(table.slot(index).deadline.load(Ordering::Relaxed));
            if !is_selected() || !self.claim(index, |_| is_selected()) {
                continue;
            }
            let value = value(self.id_of(index));
            completed += usize::from(self.fill(index, value).is_ok());
        }
        completed
    }

    /// Claims a slot if it is WAITING and `is_match` holds.
    ///
    /// `is_match` is checked after the claim, since another call may have opened the slot after it
    /// was found. From the claim on, the slot cannot change owner.
    fn claim(&mut self, index: usize, is_match: impl FnOnce(&Self) -> bool) -> bool {
        if !self.table.slot(index).transition(WAITING, CLAIMED) {
            return false;
        }
        let is_match = is_match(self);
        if !is_match {
            self.unclaim(index);
        }
        is_match
    }

    fn index_of(&self, stream: StreamId) -> Option<usize> {
        let index = stream.0 as u32 as usize;
        (index < self.table.capacity()).then_some(index)
    }

    fn stream_of(&self, index: usize) -> StreamId {
        let generation = self.table.slot(index).generation.load(Ordering::Relaxed);
        stream_id(index, generation)
    }

    /// Returns the id in a claimed slot.
    fn id_of(&self, index: usize) -> &str {
        self.table.slot(index).id.with(|id| {
            // SAFETY: the slot is CLAIMED or ABANDONED, and stays so while `self` is borrowed.
            unsafe { &*id }
        })
    }

    /// Puts a value into a claimed slot. Returns it if the ticket was dropped meanwhile.
    fn fill(&mut self, index: usize, value: T) -> Result<(), T> {
        let slot = self.table.slot(index);
        slot.put(self.received, value);
        if slot.transition(CLAIMED, READY) {
            slot.waker.wake();
            return Ok(());
        }
        let value = slot.value.with_mut(|cell| {
            // SAFETY: the change failed, so the slot is ABANDONED and this is the completer.
            unsafe { &mut *cell }.take()
        });
        self.table.release(index);
        value.map_or(Ok(()), Err)
    }

    /// Undoes a claim. Releases the slot if its ticket was dropped meanwhile.
    fn unclaim(&mut self, index: usize) {
        if !self.table.slot(index).transition(CLAIMED, WAITING) {
            self.table.release(index);
        }
    }
}
