use crate::protocol::bodies;
use bytes::Bytes;
use serde::{Deserialize, Serialize};

/// Chunk of a request body, owned.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RequestBodyChunkEvent {
    /// Correlation id, which joins all events of one HTTP request.
    pub correlation_id: String,
    /// Bytes of the chunk.
    #[serde(with = "bodies")]
    pub data: Bytes,
    /// `true` if the body ends with this chunk.
    pub is_last: bool,
    /// Size of the whole body in bytes, if known.
    #[serde(default)]
    pub total_size: Option<usize>,
    /// Index of the chunk, counted from 0.
    #[serde(default)]
    pub chunk_index: u32,
    /// Bytes of the body received so far, this chunk included.
    #[serde(default)]
    pub bytes_received: usize,
}

/// Chunk of a response body, owned.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ResponseBodyChunkEvent {
    /// Correlation id, which joins all events of one HTTP request.
    pub correlation_id: String,
    /// Bytes of the chunk.
    #[serde(with = "bodies")]
    pub data: Bytes,
    /// `true` if the body ends with this chunk.
    pub is_last: bool,
    /// Size of the whole body in bytes, if known.
    #[serde(default)]
    pub total_size: Option<usize>,
    /// Index of the chunk, counted from 0.
    #[serde(default)]
    pub chunk_index: u32,
    /// Bytes of the body sent so far, this chunk included.
    #[serde(default)]
    pub bytes_sent: usize,
}

/// Alias for compatibility with `zentinel-agent-protocol`, which has a second type for binary data.
/// Here the data of every chunk is binary.
pub type BinaryRequestBodyChunkEvent = RequestBodyChunkEvent;

/// Alias for compatibility with `zentinel-agent-protocol`, like [`BinaryRequestBodyChunkEvent`].
pub type BinaryResponseBodyChunkEvent = ResponseBodyChunkEvent;

impl RequestBodyChunkEvent {
    /// Creates a chunk of a body of unknown size. Sets `bytes_received` to the size of the chunk.
    pub fn new(
        correlation_id: impl Into<String>,
        data: impl Into<Bytes>,
        chunk_index: u32,
        is_last: bool,
    ) -> Self {
        let data = data.into();
        Self {
            correlation_id: correlation_id.into(),
            bytes_received: data.len(),
            data,
            is_last,
            total_size: None,
            chunk_index,
        }
    }

    /// Sets the size of the whole body in bytes.
    #[must_use]
    pub fn with_total_size(mut self, size: usize) -> Self {
        self.total_size = Some(size);
        self
    }

    /// Sets the number of bytes of the body received so far.
    #[must_use]
    pub fn with_bytes_received(mut self, bytes: usize) -> Self {
        self.bytes_received = bytes;
        self
    }

    /// Returns the borrowed form of the chunk. The data is shared, not copied.
    pub fn borrowed(&self) -> BodyChunk<'_> {
        BodyChunk {
            correlation_id: &self.correlation_id,
            data: self.data.clone(),
            is_last: self.is_last,
            total_size: self.total_size,
            chunk_index: self.chunk_index,
            bytes_so_far: self.bytes_received,
        }
    }
}

impl ResponseBodyChunkEvent {
    /// Creates a chunk of a body of unknown size. Sets `bytes_sent` to the size of the chunk.
    pub fn new(
        correlation_id: impl Into<String>,
        data: impl Into<Bytes>,
        chunk_index: u32,
        is_last: bool,
    ) -> Self {
        let data = data.into();
        Self {
            correlation_id: correlation_id.into(),
            bytes_sent: data.len(),
            data,
            is_last,
            total_size: None,
            chunk_index,
        }
    }

    /// Sets the size of the whole body in bytes.
    #[must_use]
    pub fn with_total_size(mut self, size: usize) -> Self {
        self.total_size = Some(size);
        self
    }

    /// Sets the number of bytes of the body sent so far.
    #[must_use]
    pub fn with_bytes_sent(mut self, bytes: usize) -> Self {
        self.bytes_sent = bytes;
        self
    }

    /// Returns the borrowed form of the chunk. The data is shared, not copied.
    pub fn borrowed(&self) -> BodyChunk<'_> {
        BodyChunk {
            correlation_id: &self.correlation_id,
            data: self.data.clone(),
            is_last: self.is_last,
            total_size: self.total_size,
            chunk_index: self.chunk_index,
            bytes_so_far: self.bytes_sent,
        }
    }
}

/// Chunk of a request or response body, borrowed.
///
/// Agents receive this form. Proxies send it as [`RequestBodyChunk`] or [`ResponseBodyChunk`].
/// Keeping `data` on the agent's side keeps the memory of the frame it arrived in: it is never
/// copied.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BodyChunk<'a> {
    /// Correlation id, which joins all events of one HTTP request.
    pub correlation_id: &'a str,
    /// Bytes of the chunk.
    pub data: Bytes,
    /// `true` if the body ends with this chunk.
    pub is_last: bool,
    /// Size of the whole body in bytes, if known.
    pub total_size: Option<usize>,
    /// Index of the chunk, counted from 0.
    pub chunk_index: u32,
    /// Bytes of the body that have passed so far, this chunk included.
    pub bytes_so_far: usize,
}

/// Event for a chunk of a request body, borrowed: sent without allocating or copying the data.
///
/// ```no_run
/// # async fn example(
/// #     exchange: &mut tollgate::Exchange,
/// #     data: tollgate::Bytes,
/// # ) -> Result<(), tollgate::AgentProtocolError> {
/// use tollgate::{BodyChunk, RequestBodyChunk};
///
/// let chunk = RequestBodyChunk(BodyChunk::new("request-1", data, 0, true));
/// exchange.push(&chunk).await?;
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RequestBodyChunk<'a>(pub BodyChunk<'a>);

/// Event for a chunk of a response body, borrowed: sent without allocating or copying the data.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ResponseBodyChunk<'a>(pub BodyChunk<'a>);

impl<'a> BodyChunk<'a> {
    /// Creates a chunk of a body of unknown size. Sets `bytes_so_far` to the size of the chunk.
    pub fn new(correlation_id: &'a str, data: Bytes, chunk_index: u32, is_last: bool) -> Self {
        Self {
            correlation_id,
            bytes_so_far: data.len(),
            data,
            is_last,
            total_size: None,
            chunk_index,
        }
    }

    /// Returns an owned event for a request body. The data is shared, not copied.
    pub fn to_request_event(&self) -> RequestBodyChunkEvent {
        RequestBodyChunkEvent {
            correlation_id: self.correlation_id.to_owned(),
            data: self.data.clone(),
            is_last: self.is_last,
            total_size: self.total_size,
            chunk_index: self.chunk_index,
            bytes_received: self.bytes_so_far,
        }
    }

    /// Returns an owned event for a response body. The data is shared, not copied.
    pub fn to_response_event(&self) -> ResponseBodyChunkEvent {
        ResponseBodyChunkEvent {
            correlation_id: self.correlation_id.to_owned(),
            data: self.data.clone(),
            is_last: self.is_last,
            total_size: self.total_size,
            chunk_index: self.chunk_index,
            bytes_sent: self.bytes_so_far,
        }
    }
}
