//! Messages of HTTP/1 as bytes.

use bytes::{Buf, BytesMut};
use std::io::{Error, ErrorKind, Result};
use tokio::io::{AsyncRead, AsyncReadExt};

/// The head of a message, line by line.
#[derive(Debug, Clone, Default)]
pub(crate) struct HeadText {
    pub(crate) first_line: String,
    pub(crate) headers: Vec<(String, String)>,
}

impl HeadText {
    /// Returns all values of a header, joined by `|`; `None` if there is none.
    pub(crate) fn get(&self, name: &str) -> Option<String> {
        joined(&self.headers, name)
    }

    pub(crate) fn parse(bytes: &[u8]) -> Self {
        let text = String::from_utf8_lossy(bytes);
        let mut lines = text.split("\r\n").filter(|line| !line.is_empty());
        let first_line = lines.next().unwrap_or_default().to_owned();
        let headers = lines.map(|line| {
            let (name, value) = line.split_once(':').unwrap_or((line, ""));
            (name.to_ascii_lowercase(), value.trim().to_owned())
        });
        Self {
            first_line,
            headers: headers.collect(),
        }
    }

    /// Returns the status of a response.
    pub(crate) fn status(&self) -> u16 {
        let status = self.first_line.split(' ').nth(1);
        status.and_then(|status| status.parse().ok()).unwrap_or(0)
    }
}

/// Returns all values of a header, joined by `|`; `None` if there is none.
pub(crate) fn joined(headers: &[(String, String)], name: &str) -> Option<String> {
    let values = headers.iter().filter(|(found, _)| found == name);
    let values: Vec<_> = values.map(|(_, value)| value.as_str()).collect();
    (!values.is_empty()).then(|| values.join("|"))
}

/// Reads messages from a stream.
#[derive(Debug)]
pub(crate) struct Reader<R> {
    stream: R,
    pub(crate) buffer: BytesMut,
}

impl<R: AsyncRead + Unpin> Reader<R> {
    pub(crate) fn new(stream: R) -> Self {
        Self {
            stream,
            buffer: BytesMut::new(),
        }
    }

    /// Reads more into the buffer.
    pub(crate) async fn fill(&mut self) -> Result<()> {
        match self.stream.read_buf(&mut self.buffer).await? {
            0 => Err(ErrorKind::UnexpectedEof.into()),
            _ => Ok(()),
        }
    }

    /// Reads up to and with an end, and returns what was before it.
    async fn until(&mut self, end: &[u8]) -> Result<BytesMut> {
        loop {
            let found = self.buffer.windows(end.len()).position(|part| part == end);
            if let Some(at) = found {
                let before = self.buffer.split_to(at);
                self.buffer.advance(end.len());
                return Ok(before);
            }
            self.fill().await?;
        }
    }

    pub(crate) async fn head(&mut self) -> Result<HeadText> {
        Ok(HeadText::parse(&self.until(b"\r\n\r\n").await?))
    }

    /// Reads a part of a body that ends after a number of bytes. `None` after its end.
    pub(crate) async fn part(&mut self, left: &mut usize) -> Result<Option<BytesMut>> {
        if *left == 0 {
            return Ok(None);
        }
        if self.buffer.is_empty() {
            self.fill().await?;
        }
        let part = self.buffer.split_to(self.buffer.len().min(*left));
        *left -= part.len();
        Ok(Some(part))
    }

    /// Reads a chunk; `None` for the last one, whose trailers follow.
    pub(crate) async fn chunk(&mut self) -> Result<Option<BytesMut>> {
        let line = self.until(b"\r\n").await?;
        let line = String::from_utf8_lossy(&line).into_owned();
        let digits = line.split(';').next().unwrap_or_default().trim();
        let len = usize::from_str_radix(digits, 16)
            .map_err(|_| Error::new(ErrorKind::InvalidData, format!("chunk length {line:?}")))?;
        if len == 0 {
            return Ok(None);
        }
        while self.buffer.len() < len + 2 {
            self.fill().await?;
        }
        let chunk = self.buffer.split_to(len);
        self.buffer.advance(2);
        Ok(Some(chunk))
    }

    /// Reads the trailers behind the last chunk.
    pub(crate) async fn trailers(&mut self) -> Result<Vec<(String, String)>> {
        let mut trailers = Vec::new();
        loop {
            let line = self.until(b"\r\n").await?;
            if line.is_empty() {
                return Ok(trailers);
            }
            let line = String::from_utf8_lossy(&line).into_owned();
            let (name, value) = line.split_once(':').unwrap_or((&line, ""));
            trailers.push((name.to_ascii_lowercase(), value.trim().to_owned()));
        }
    }
}
