//! The request body, read chunk by chunk.

use crate::exit::UsageError;
use bytes::Bytes;
use std::fs::File;
use std::io::{self, Read};

/// A body that is read while it is sent. Reads one chunk ahead to know which chunk is the last.
pub(super) struct Body {
    source: Box<dyn Read>,
    name: String,
    chunk_size: usize,
    total_size: Option<usize>,
    next: Bytes,
}

/// A chunk of a body.
pub(super) struct Chunk {
    /// The bytes, never empty.
    pub(super) data: Bytes,
    /// Set on the last chunk.
    pub(super) is_last: bool,
}

impl Body {
    /// Returns an empty body.
    pub(super) fn none() -> Self {
        Self {
            source: Box::new(io::empty()),
            name: String::new(),
            chunk_size: 0,
            total_size: None,
            next: Bytes::new(),
        }
    }

    /// Opens a file, or stdin for `-`, and reads the first chunk.
    pub(super) fn open(file: &str, chunk_size: usize) -> Result<Self, UsageError> {
        let (source, total_size) = open_source(file).map_err(|error| unreadable(file, &error))?;
        let mut body = Self {
            source,
            name: file.to_owned(),
            chunk_size,
            total_size,
            next: Bytes::new(),
        };
        body.next = body.read_chunk()?;
        Ok(body)
    }

    /// Returns the size of the whole body, if it is known beforehand.
    pub(super) fn total_size(&self) -> Option<usize> {
        self.total_size
    }

    /// Returns the next chunk, or `None` at the end of the body.
    pub(super) fn next_chunk(&mut self) -> Result<Option<Chunk>, UsageError> {
        if self.next.is_empty() {
            return Ok(None);
        }
        let following = self.read_chunk()?;
        let data = std::mem::replace(&mut self.next, following);
        Ok(Some(Chunk {
            data,
            is_last: self.next.is_empty(),
        }))
    }

    fn read_chunk(&mut self) -> Result<Bytes, UsageError> {
        let mut data = Vec::new();
        self.source
            .by_ref()
            .take(self.chunk_size as u64)
            .read_to_end(&mut data)
            .map_err(|error| unreadable(&self.name, &error))?;
        Ok(data.into())
    }
}

fn open_source(file: &str) -> io::Result<(Box<dyn Read>, Option<usize>)> {
    if file == "-" {
        return Ok((Box::new(io::stdin()), None));
    }
    let opened = File::open(file)?;
    let metadata = opened.metadata()?;
    let size = metadata
        .is_file()
        .then(|| usize::try_from(metadata.len()).ok())
        .flatten();
    Ok((Box::new(opened), size))
}

fn unreadable(file: &str, error: &io::Error) -> UsageError {
    UsageError(format!("cannot read body {file}: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    fn chunks(content: &[u8], chunk_size: usize) -> Vec<(Bytes, bool)> {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(content).unwrap();
        let mut body = Body::open(file.path().to_str().unwrap(), chunk_size).unwrap();
        assert_eq!(body.total_size(), Some(content.len()));
        std::iter::from_fn(|| body.next_chunk().unwrap())
            .map(|chunk| (chunk.data, chunk.is_last))
            .collect()
    }

    #[test]
    fn last_chunk_is_marked_even_when_it_is_full() {
        let expected = [(Bytes::from("abcd"), false), (Bytes::from("efgh"), true)];
        assert_eq!(chunks(b"abcdefgh", 4), expected);
        assert_eq!(chunks(b"abc", 4), [(Bytes::from("abc"), true)]);
    }

    #[test]
    fn empty_body_has_no_chunks() {
        assert!(chunks(b"", 4).is_empty());
        assert!(Body::none().next_chunk().unwrap().is_none());
    }

    #[test]
    fn missing_file_and_directory_are_usage_errors() {
        assert!(Body::open("/nowhere/at/all", 4).is_err());
        assert!(Body::open("/", 4).is_err());
    }
}
