//! The headers of borrowed events, for agents that get them as they are.

use super::decode::{DecodeErrorKind, Decoded};
use crate::protocol::FieldValue;
use crate::protocol::headers::{HeaderSource, group};
use std::borrow::Cow;
use std::cell::RefCell;

/// Lists of headers that a thread keeps for the next events.
const MAX_SPARE: usize = 64;

/// Headers that a list may have room for to be kept.
const MAX_KEPT: usize = 256;

thread_local! {
    static SPARE: RefCell<Vec<Vec<Item<'static>>>> = const { RefCell::new(Vec::new()) };
}

/// A header of an event, or a name that has no values.
///
/// Invariant of a list: the values of one name follow each other, and their names are the same
/// slice.
type Item<'e> = (&'e str, Option<Cow<'e, str>>);

/// Headers of an event that is borrowed. [`HeadersView`](super::HeadersView)s read them.
#[allow(unnameable_types, reason = "belongs to a sealed trait")]
pub struct BorrowedHeaders<'e> {
    items: Vec<Item<'e>>,
    names: usize,
    /// Bytes of all names and values.
    len: usize,
}

impl<'e> BorrowedHeaders<'e> {
    /// Creates an empty list, in memory of an earlier one if there is any.
    pub(crate) fn new() -> Self {
        let spare = SPARE.try_with(|spare| spare.try_borrow_mut().ok()?.pop());
        Self {
            items: spare.ok().flatten().unwrap_or_default(),
            names: 0,
            len: 0,
        }
    }

    /// Adds the headers of a source.
    pub(super) fn extend(&mut self, source: &'e impl HeaderSource) {
        if let Some(singles) = source.singles() {
            self.items.reserve(source.max_names());
            singles.for_each(|(name, value)| {
                self.add_name(name);
                self.add(name, Some(value));
            });
        } else if let Some(headers) = source.ungrouped() {
            self.add_groups(group(headers).into_iter());
        } else {
            self.add_groups(source.grouped());
        }
    }

    fn add_groups(
        &mut self,
        groups: impl Iterator<Item = (&'e str, impl IntoIterator<Item = FieldValue<'e>>)>,
    ) {
        for (name, values) in groups {
            self.add_name(name);
            let before = self.items.len();
            for value in values {
                self.add(name, Some(value));
            }
            if self.items.len() == before {
                self.add(name, None);
            }
        }
    }

    fn add_name(&mut self, name: &str) {
        self.names += 1;
        self.len += name.len();
    }

    #[inline]
    fn add(&mut self, name: &'e str, value: Option<FieldValue<'e>>) {
        let value = value.map(FieldValue::to_text);
        self.len += value.as_ref().map_or(0, |value| value.len());
        self.items.push((name, value));
    }

    /// Returns the number of distinct names.
    pub(super) fn names(&self) -> usize {
        self.names
    }

    /// Returns the bytes of all names and values.
    pub(super) fn text_len(&self) -> usize {
        self.len
    }

    pub(super) fn reader(&self) -> Reader<'_> {
        Reader {
            items: &self.items,
            values: 0,
        }
    }
}

impl Drop for BorrowedHeaders<'_> {
    /// Keeps the memory for another list.
    fn drop(&mut self) {
        if !(1..=MAX_KEPT).contains(&self.items.capacity()) {
            return;
        }
        let mut items = std::mem::take(&mut self.items);
        items.clear();
        // Changes the lifetime of items of which there are none. `collect` keeps the memory, as
        // the new items have the size of the old ones.
        let items = items.into_iter().map(|_| ("", None)).collect();
        // Fails while the thread ends. The memory is freed then.
        let _ = SPARE.try_with(|spare| {
            if let Ok(mut spare) = spare.try_borrow_mut()
                && spare.len() < MAX_SPARE
            {
                spare.push(items);
            }
        });
    }
}

/// A cursor over the headers of a borrowed event, like those over the headers in a frame: each name
/// is followed by the number of its values and by the values.
#[derive(Clone, Copy)]
pub(super) struct Reader<'e> {
    items: &'e [Item<'e>],
    /// Values that are left of the current name; 0 before a name.
    values: usize,
}

impl<'e> Reader<'e> {
    #[inline]
    pub(super) fn str(&mut self) -> Decoded<&'e str> {
        let ((name, value), rest) = self.items.split_first().ok_or(DecodeErrorKind::CutShort)?;
        if self.values == 0 {
            return Ok(name);
        }
        self.values -= 1;
        self.items = rest;
        value.as_deref().ok_or(DecodeErrorKind::CutShort)
    }

    #[inline]
    pub(super) fn array(&mut self) -> Decoded<usize> {
        let ((name, value), rest) = self.items.split_first().ok_or(DecodeErrorKind::CutShort)?;
        if value.is_none() {
            self.items = rest;
            return Ok(0);
        }
        let more = rest
            .iter()
            .take_while(|(other, _)| std::ptr::eq(*other, *name));
        self.values = 1 + more.count();
        Ok(self.values)
    }
}

#[cfg(test)]
#[path = "../../tests/unit/wire/borrowed_headers.rs"]
mod tests;
