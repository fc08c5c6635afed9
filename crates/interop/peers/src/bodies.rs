//! Finds a blocked text in bodies that arrive in chunks, also across two chunks.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

/// Which body of an exchange a chunk belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Direction {
    Request,
    Response,
}

/// Incomplete bodies, by direction and correlation id.
pub struct Bodies {
    word: Option<Vec<u8>>,
    open: Mutex<HashMap<(Direction, String), Body>>,
}

/// State of the search in one body.
#[derive(Default)]
struct Body {
    /// End of the received part, in which the text may begin.
    tail: Vec<u8>,
    found: bool,
}

impl Bodies {
    /// Creates a search for `word`. Without a word nothing is kept or found.
    pub fn new(word: Option<String>) -> Self {
        Self {
            word: word.filter(|word| !word.is_empty()).map(String::into_bytes),
            open: Mutex::default(),
        }
    }

    /// Adds the next chunk of a body. Returns whether the word was found.
    pub fn take(&self, direction: Direction, id: &str, data: &[u8], is_last: bool) -> bool {
        let Some(word) = &self.word else {
            return false;
        };
        let key = (direction, id.to_owned());
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        let body = open.entry(key.clone()).or_default();
        body.take(word, data);
        let found = body.found;
        if is_last {
            open.remove(&key);
        }
        found
    }

    /// Removes both bodies of an exchange that has ended.
    pub fn forget(&self, id: &str) {
        if self.word.is_none() {
            return;
        }
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        for direction in [Direction::Request, Direction::Response] {
            open.remove(&(direction, id.to_owned()));
        }
    }
}

impl Body {
    fn take(&mut self, word: &[u8], data: &[u8]) {
        if self.found {
            return;
        }
        self.tail.extend_from_slice(data);
        self.found = self.tail.windows(word.len()).any(|part| part == word);
        let keep = self.tail.len().min(word.len() - 1);
        self.tail.drain(..self.tail.len() - keep);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn word_is_found_across_chunks_of_one_body() {
        let bodies = Bodies::new(Some("BLOCK-ME".to_owned()));
        assert!(!bodies.take(Direction::Request, "a", b"xxBLOCK-", false));
        assert!(!bodies.take(Direction::Request, "b", b"ME", false));
        assert!(!bodies.take(Direction::Response, "a", b"ME", false));
        assert!(bodies.take(Direction::Request, "a", b"ME", false));
        assert!(bodies.take(Direction::Request, "a", b"more", true));
        assert!(!bodies.take(Direction::Request, "a", b"ME", false));
    }

    #[test]
    fn nothing_is_found_without_a_word() {
        let bodies = Bodies::new(Some(String::new()));
        assert!(!bodies.take(Direction::Request, "a", b"", true));
    }
}
