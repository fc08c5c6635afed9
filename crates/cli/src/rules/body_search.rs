//! Finding texts in bodies that arrive in chunks.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use tollgate::BodyChunk;

/// How many bodies are followed before the one that rested longest may be forgotten.
const OPEN_BODIES: usize = 32 * 1024;

/// Longer ids are nobody's, and would let a peer fill the memory.
const LONGEST_ID: usize = 256;

/// Looks for texts in many bodies at once; a text may begin in one chunk and end in a later one.
pub(super) struct BodySearch {
    texts: Vec<Box<[u8]>>,
    /// Bytes at the end of a body so far in which a text may have begun.
    tail_len: usize,
    open: Mutex<OpenBodies>,
}

/// What a chunk turned out to be.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// No text ends in this chunk.
    Clean,
    /// A text ends in this chunk.
    Found,
    /// What came before this chunk is not known, so a text may end in it.
    LostTrack,
}

impl BodySearch {
    /// A search for these texts, if there are any.
    pub(super) fn new(texts: &[String]) -> Option<Self> {
        let longest = texts.iter().map(String::len).max()?;
        Some(Self {
            texts: texts.iter().map(|text| text.as_bytes().into()).collect(),
            tail_len: longest.saturating_sub(1),
            open: Mutex::default(),
        })
    }

    /// Searches the next chunk of a body.
    pub(super) fn look_at(&self, chunk: &BodyChunk<'_>) -> Verdict {
        let Some(mut tail) = self.tail_before(chunk) else {
            return Verdict::LostTrack;
        };
        if self.is_found(&tail, &chunk.data) {
            return Verdict::Found;
        }
        if !chunk.is_last && self.tail_len > 0 {
            if chunk.correlation_id.len() > LONGEST_ID {
                return Verdict::LostTrack;
            }
            keep_end(&mut tail, &chunk.data, self.tail_len);
            self.open().insert(chunk.correlation_id, tail);
        }
        Verdict::Clean
    }

    /// Drops what is known of a body.
    pub(super) fn forget(&self, correlation_id: &str) {
        self.open().remove(correlation_id);
    }

    /// Takes out the end of what came before a chunk.
    ///
    /// Some proxies leave all indices at 0, so index 0 alone does not make a chunk the first.
    fn tail_before(&self, chunk: &BodyChunk<'_>) -> Option<Vec<u8>> {
        if self.tail_len == 0 {
            return Some(Vec::new());
        }
        let known = self.open().remove(chunk.correlation_id);
        known.or_else(|| (chunk.chunk_index == 0).then(Vec::new))
    }

    fn is_found(&self, tail: &[u8], data: &[u8]) -> bool {
        let mut seam = tail.to_vec();
        seam.extend_from_slice(&data[..data.len().min(self.tail_len)]);
        self.texts
            .iter()
            .any(|text| contains(&seam, text) || contains(data, text))
    }

    fn open(&self) -> MutexGuard<'_, OpenBodies> {
        // Each step leaves the maps whole, so a panic elsewhere does not spoil them.
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The tails of bodies that have not ended.
///
/// Exchanges may end without a word, when their proxy dies. To stay bounded, tails are kept in two
/// generations: when the young one is full it becomes the old one, and what was still old is dropped.
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
    let mut left = haystack;
    while let Some(at) = left.iter().position(|byte| byte == first) {
        left = &left[at + 1..];
        if left.starts_with(rest) {
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
    fn text_is_found_wherever_the_body_is_cut() {
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
                    search.look_at(&event) == Verdict::Found
                });
            assert!(found, "chunks of {size}");
        }
    }

    #[test]
    fn bodies_are_kept_apart_and_forgotten_at_their_end() {
        let search = search(&["ab"]);
        assert_eq!(search.look_at(&chunk("one", 0, "a", false)), Verdict::Clean);
        assert_eq!(search.look_at(&chunk("two", 0, "x", false)), Verdict::Clean);
        assert_eq!(search.look_at(&chunk("two", 1, "b", true)), Verdict::Clean);
        assert_eq!(search.look_at(&chunk("one", 1, "b", true)), Verdict::Found);
        assert!(is_empty(&search));
    }

    #[test]
    fn forgetting_drops_the_tail() {
        let search = search(&["ab"]);
        search.look_at(&chunk("one", 0, "a", false));
        search.forget("one");
        assert!(is_empty(&search));
    }

    #[test]
    fn chunk_without_beginning_is_not_clean() {
        assert_eq!(
            search(&["ab"]).look_at(&chunk("one", 3, "b", true)),
            Verdict::LostTrack
        );
        assert_eq!(
            search(&["b"]).look_at(&chunk("one", 3, "a", true)),
            Verdict::Clean
        );
    }

    #[test]
    fn chunks_without_indices_are_joined() {
        let search = search(&["ab"]);
        assert_eq!(search.look_at(&chunk("one", 0, "a", false)), Verdict::Clean);
        assert_eq!(search.look_at(&chunk("one", 0, "b", true)), Verdict::Found);
    }

    #[test]
    fn body_that_cannot_be_followed_is_not_clean() {
        let id = "x".repeat(LONGEST_ID + 1);
        let search = search(&["ab"]);
        assert_eq!(
            search.look_at(&chunk(&id, 0, "a", false)),
            Verdict::LostTrack
        );
        assert_eq!(search.look_at(&chunk(&id, 0, "a", true)), Verdict::Clean);
    }

    #[test]
    fn longer_text_does_not_hide_a_shorter_one() {
        let search = search(&["forbidden", "no"]);
        assert_eq!(
            search.look_at(&chunk("one", 0, "xn", false)),
            Verdict::Clean
        );
        assert_eq!(search.look_at(&chunk("one", 1, "ox", true)), Verdict::Found);
    }

    #[test]
    fn exchanges_that_never_end_do_not_pile_up() {
        let search = search(&["ab"]);
        for id in 0..3 * OPEN_BODIES {
            search.look_at(&chunk(&id.to_string(), 0, "a", false));
        }
        let open = search.open();
        assert!(open.young.len() + open.old.len() <= 2 * OPEN_BODIES);
    }

    #[test]
    fn repeated_beginnings_are_seen_through() {
        assert!(contains(b"aaab", b"aab"));
        assert!(!contains(b"aaa", b"aab"));
        assert!(!contains(b"", b"a"));
    }
}
