//! Searches bodies that arrive in chunks for texts.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use tollgate::BodyChunk;

/// Size of one generation of [`OpenBodies`]: the number of unfinished bodies after which the oldest
/// may be dropped.
const OPEN_BODIES: usize = 32 * 1024;

/// Length limit of correlation ids, which bounds the memory that a peer can fill.
const LONGEST_ID: usize = 256;

/// Searches many bodies at once. A text may begin in one chunk and end in a later one.
pub(super) struct BodySearch {
    texts: Vec<Box<[u8]>>,
    /// Number of bytes to keep from the end of a body, in which a text may have begun.
    tail_len: usize,
    open: Mutex<OpenBodies>,
}

/// Result of searching a chunk.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// No text ends in this chunk.
    Clean,
    /// A text ends in this chunk.
    Found,
    /// The preceding bytes are not known, so a text may end in this chunk.
    Incomplete,
}

impl BodySearch {
    /// Creates a search for these texts. Returns `None` if there are none.
    pub(super) fn new(texts: &[String]) -> Option<Self> {
        let longest = texts.iter().map(String::len).max()?;
        Some(Self {
            texts: texts.iter().map(|text| text.as_bytes().into()).collect(),
            tail_len: longest.saturating_sub(1),
            open: Mutex::default(),
        })
    }

    /// Searches the next chunk of a body.
    pub(super) fn search(&self, chunk: &BodyChunk<'_>) -> Verdict {
        let Some(mut tail) = self.tail_before(chunk) else {
            return Verdict::Incomplete;
        };
        if self.is_found(&tail, &chunk.data) {
            return Verdict::Found;
        }
        if !chunk.is_last && self.tail_len > 0 {
            if chunk.correlation_id.len() > LONGEST_ID {
                return Verdict::Incomplete;
            }
            keep_end(&mut tail, &chunk.data, self.tail_len);
            self.open().insert(chunk.correlation_id, tail);
        }
        Verdict::Clean
    }

    /// Drops the state of a body.
    pub(super) fn forget(&self, correlation_id: &str) {
        self.open().remove(correlation_id);
    }

    /// Removes and returns the kept bytes that precede a chunk. `None` if they are not known.
    ///
    /// Some proxies send index 0 with every chunk, so index 0 alone does not mark the first chunk.
    fn tail_before(&self, chunk: &BodyChunk<'_>) -> Option<Vec<u8>> {
        if self.tail_len == 0 {
            return Some(Vec::new());
        }
        let known = self.open().remove(chunk.correlation_id);
        known.or_else(|| (chunk.chunk_index == 0).then(Vec::new))
    }

    fn is_found(&self, tail: &[u8], data: &[u8]) -> bool {
        let mut boundary = tail.to_vec();
        boundary.extend_from_slice(&data[..data.len().min(self.tail_len)]);
        self.texts
            .iter()
            .any(|text| contains(&boundary, text) || contains(data, text))
    }

    fn open(&self) -> MutexGuard<'_, OpenBodies> {
        // Every operation leaves the maps consistent, so a poisoned lock can be used.
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The last bytes ("tails") of bodies that have not ended.
///
/// An exchange may end without notice if its proxy crashes. To bound memory, tails are kept in two
/// generations: a full young generation becomes the old one, and the previous old one is dropped.
#[derive(Default)]
struct OpenBodies {
    young: HashMap<Box<str>, Vec<u8>>,
    old: HashMap<Box<str>, Vec<u8>>,
}

impl OpenBodies {
    fn insert(&mut self, correlation_id: &str, tail: Vec<u8>) {
        if self.young.len() >= OPEN_BODIES {
            self.old = std::mem::take(&mut self.young);
        }
        self.young.insert(correlation_id.into(), tail);
    }

    fn remove(&mut self, correlation_id: &str) -> Option<Vec<u8>> {
        let young = self.young.remove(correlation_id);
        young.or_else(|| self.old.remove(correlation_id))
    }
}

/// Appends `data` to `tail` and keeps the last `len` bytes.
fn keep_end(tail: &mut Vec<u8>, data: &[u8], len: usize) {
    let fresh = &data[data.len().saturating_sub(len)..];
    let surplus = (tail.len() + fresh.len()).saturating_sub(len);
    tail.drain(..surplus);
    tail.extend_from_slice(fresh);
}

fn contains(haystack: &[u8], needle: &[u8]) -> bool {
    let Some((first, rest)) = needle.split_first() else {
        return true;
    };
    let mut remaining = haystack;
    while let Some(at) = remaining.iter().position(|byte| byte == first) {
        remaining = &remaining[at + 1..];
        if remaining.starts_with(rest) {
            return true;
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;

    fn chunk<'a>(id: &'a str, index: u32, data: &'static str, is_last: bool) -> BodyChunk<'a> {
        BodyChunk {
            correlation_id: id,
            data: Bytes::from_static(data.as_bytes()),
            is_last,
            total_size: None,
            chunk_index: index,
            bytes_so_far: data.len(),
        }
    }

    fn search(texts: &[&str]) -> BodySearch {
        let texts: Vec<String> = texts.iter().map(|text| (*text).to_owned()).collect();
        BodySearch::new(&texts).unwrap()
    }

    fn is_empty(search: &BodySearch) -> bool {
        search.open().young.is_empty() && search.open().old.is_empty()
    }

    #[test]
    fn text_is_found_across_any_chunk_boundary() {
        let body = "a forbidden text";
        for size in 1..=body.len() {
            let search = search(&["forbidden"]);
            let last = body.len().div_ceil(size) - 1;
            let found = body
                .as_bytes()
                .chunks(size)
                .enumerate()
                .any(|(index, piece)| {
                    let piece = std::str::from_utf8(piece).unwrap();
                    let event = chunk("one", u32::try_from(index).unwrap(), piece, index == last);
                    search.search(&event) == Verdict::Found
                });
            assert!(found, "chunks of {size}");
        }
    }

    #[test]
    fn bodies_are_separate_and_dropped_at_their_end() {
        let search = search(&["ab"]);
        assert_eq!(search.search(&chunk("one", 0, "a", false)), Verdict::Clean);
        assert_eq!(search.search(&chunk("two", 0, "x", false)), Verdict::Clean);
        assert_eq!(search.search(&chunk("two", 1, "b", true)), Verdict::Clean);
        assert_eq!(search.search(&chunk("one", 1, "b", true)), Verdict::Found);
        assert!(is_empty(&search));
    }

    #[test]
    fn forgetting_drops_the_tail() {
        let search = search(&["ab"]);
        search.search(&chunk("one", 0, "a", false));
        search.forget("one");
        assert!(is_empty(&search));
    }

    #[test]
    fn chunk_with_unknown_beginning_is_incomplete() {
        assert_eq!(
            search(&["ab"]).search(&chunk("one", 3, "b", true)),
            Verdict::Incomplete
        );
        assert_eq!(
            search(&["b"]).search(&chunk("one", 3, "a", true)),
            Verdict::Clean
        );
    }

    #[test]
    fn chunks_without_indices_are_joined() {
        let search = search(&["ab"]);
        assert_eq!(search.search(&chunk("one", 0, "a", false)), Verdict::Clean);
        assert_eq!(search.search(&chunk("one", 0, "b", true)), Verdict::Found);
    }

    #[test]
    fn body_with_too_long_an_id_is_incomplete() {
        let id = "x".repeat(LONGEST_ID + 1);
        let search = search(&["ab"]);
        assert_eq!(
            search.search(&chunk(&id, 0, "a", false)),
            Verdict::Incomplete
        );
        assert_eq!(search.search(&chunk(&id, 0, "a", true)), Verdict::Clean);
    }

    #[test]
    fn shorter_text_is_found_beside_a_longer_one() {
        let search = search(&["forbidden", "no"]);
        assert_eq!(search.search(&chunk("one", 0, "xn", false)), Verdict::Clean);
        assert_eq!(search.search(&chunk("one", 1, "ox", true)), Verdict::Found);
    }

    #[test]
    fn unfinished_bodies_are_bounded() {
        let search = search(&["ab"]);
        for id in 0..3 * OPEN_BODIES {
            search.search(&chunk(&id.to_string(), 0, "a", false));
        }
        let open = search.open();
        assert!(open.young.len() + open.old.len() <= 2 * OPEN_BODIES);
    }

    #[test]
    fn repeated_prefixes_are_matched() {
        assert!(contains(b"aaab", b"aab"));
        assert!(!contains(b"aaa", b"aab"));
        assert!(!contains(b"", b"a"));
    }
}
