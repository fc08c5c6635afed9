use super::{CLAIMED, READY, SlotTable, WAITING, stream_id};
use crate::connection::sync::Ordering;
use crate::wire::StreamId;
use std::sync::Arc;

/// The one handle that completes the calls of a table.
#[derive(Debug)]
pub(crate) struct Completer<T> {
    table: Arc<SlotTable<T>>,
    /// When what calls are completed with was received, in a unit of the user's.
    received: u64,
}

impl<T> Completer<T> {
    /// The caller makes sure that there is no other.
    pub(super) fn of(table: Arc<SlotTable<T>>) -> Self {
        Self { table, received: 0 }
    }

    /// Notes when the values that come from now on were received, for [`Ticket::received`](super::Ticket::received).
    pub(crate) fn note_received(&mut self, at: u64) {
        self.received = at;
    }

    /// Completes the call with this id. Gives the value back if there is none.
    pub(crate) fn complete(&mut self, id: &str, key: u64, value: T) -> Result<(), T> {
        let table = Arc::clone(&self.table);
        for index in table.candidates(key) {
            if self.claim(index, |completer| completer.id_of(index) == id) {
                return self.fill(index, value);
            }
        }
        Err(value)
    }

    /// Completes the call with this stream id. Gives the value back if there is none.
    pub(crate) fn complete_stream(&mut self, stream: StreamId, value: T) -> Result<(), T> {
        let Some(index) = self.index_of(stream) else {
            return Err(value);
        };
        if self.claim(index, |completer| completer.stream_of(index) == stream) {
            return self.fill(index, value);
        }
        Err(value)
    }

    /// Whether a call that is over had this stream id, rather than none so far.
    pub(crate) fn has_seen(&self, stream: StreamId) -> bool {
        self.index_of(stream)
            .is_some_and(|index| stream.0 >> 32 != 0 && stream.0 <= self.stream_of(index).0)
    }

    /// Completes every call with this id.
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

    /// Completes every call whose deadline is at or before `now`.
    pub(crate) fn expire(&mut self, now: u64, value: impl FnMut(&str) -> T) -> usize {
        self.complete_where(|deadline| deadline <= now, value)
    }

    /// Completes every pending call; `value` gets its id.
    pub(crate) fn complete_all(&mut self, value: impl FnMut(&str) -> T) -> usize {
        self.complete_where(|_| true, value)
    }

    fn complete_where(
        &mut self,
        chosen: impl Fn(u64) -> bool,
        mut value: impl FnMut(&str) -> T,
    ) -> usize {
        let table = Arc::clone(&self.table);
        let mut completed = 0;
        for index in table.places.taken() {
            let is_chosen = || chosen(table.slot(index).deadline.load(Ordering::Relaxed));
            if !is_chosen() || !self.claim(index, |_| is_chosen()) {
                continue;
            }
            let value = value(self.id_of(index));
            completed += usize::from(self.fill(index, value).is_ok());
        }
        completed
    }

    /// Claims a slot if it waits and is still the one that is meant: another call may have opened it since
    /// it was looked at.
    fn claim(&mut self, index: usize, is_meant: impl FnOnce(&Self) -> bool) -> bool {
        if !self.table.slot(index).change(WAITING, CLAIMED) {
            return false;
        }
        let is_meant = is_meant(self);
        if !is_meant {
            self.unclaim(index);
        }
        is_meant
    }

    fn index_of(&self, stream: StreamId) -> Option<usize> {
        let index = stream.0 as u32 as usize;
        (index < self.table.capacity()).then_some(index)
    }

    fn stream_of(&self, index: usize) -> StreamId {
        let generation = self.table.slot(index).generation.load(Ordering::Relaxed);
        stream_id(index, generation)
    }

    /// The id of a claimed slot.
    fn id_of(&self, index: usize) -> &str {
        self.table.slot(index).id.with(|id| {
            // SAFETY: the slot is CLAIMED or ABANDONED, and stays so while `self` is borrowed.
            unsafe { &*id }
        })
    }

    /// Puts a value into a claimed slot.
    fn fill(&mut self, index: usize, value: T) -> Result<(), T> {
        let slot = self.table.slot(index);
        slot.received.store(self.received, Ordering::Relaxed);
        slot.value.with_mut(|place| {
            // SAFETY: the slot is CLAIMED or ABANDONED and this is the completer.
            unsafe { *place = Some(value) };
        });
        if slot.change(CLAIMED, READY) {
            slot.waker.wake();
            return Ok(());
        }
        let value = slot.value.with_mut(|place| {
            // SAFETY: the change failed, so the slot is ABANDONED and this is the completer.
            unsafe { &mut *place }.take()
        });
        self.table.release(index);
        value.map_or(Ok(()), Err)
    }

    /// Leaves a claimed slot as it was.
    fn unclaim(&mut self, index: usize) {
        if !self.table.slot(index).change(CLAIMED, WAITING) {
            self.table.release(index);
        }
    }
}
