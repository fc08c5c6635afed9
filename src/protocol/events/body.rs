use crate::protocol::bodies;
use bytes::Bytes;
use serde::{Deserialize, Serialize};

/// A piece of a request body, owned.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RequestBodyChunkEvent {
    /// Joins all events of one HTTP request.
    pub correlation_id: String,
    /// The bytes themselves.
    #[serde(with = "bodies")]
    pub data: Bytes,
    /// Whether the body ends with this chunk.
    pub is_last: bool,
    /// Size of the whole body in bytes, where known.
    #[serde(default)]
    pub total_size: Option<usize>,
    /// Which chunk, counted from 0.
    #[serde(default)]
    pub chunk_index: u32,
    /// Bytes of the body received so far, this chunk included.
    #[serde(default)]
    pub bytes_received: usize,
}

/// A piece of a response body, owned.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ResponseBodyChunkEvent {
    /// Joins all events of one HTTP request.
    pub correlation_id: String,
    /// The bytes themselves.
    #[serde(with = "bodies")]
    pub data: Bytes,
    /// Whether the body ends with this chunk.
    pub is_last: bool,
    /// Size of the whole body in bytes, where known.
    #[serde(default)]
    pub total_size: Option<usize>,
    /// Which chunk, counted from 0.
    #[serde(default)]
    pub chunk_index: u32,
    /// Bytes of the body sent so far, this chunk included.
    #[serde(default)]
    pub bytes_sent: usize,
}

/// The published crate keeps a second type whose data is bytes; here every body is.
pub type BinaryRequestBodyChunkEvent = RequestBodyChunkEvent;

/// The published crate keeps a second type whose data is bytes; here every body is.
pub type BinaryResponseBodyChunkEvent = ResponseBodyChunkEvent;

impl RequestBodyChunkEvent {
    /// A chunk of a body of unknown size; `bytes_received` is the size of the chunk.
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

    /// Sets how many bytes of the body were received so far.
    #[must_use]
    pub fn with_bytes_received(mut self, bytes: usize) -> Self {
        self.bytes_received = bytes;
        self
    }

    /// The same chunk, borrowed. The data is shared, not copied.
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
    /// A chunk of a body of unknown size; `bytes_sent` is the size of the chunk.
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

    /// Sets how many bytes of the body were sent so far.
    #[must_use]
    pub fn with_bytes_sent(mut self, bytes: usize) -> Self {
        self.bytes_sent = bytes;
        self
    }

    /// The same chunk, borrowed. The data is shared, not copied.
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

/// A piece of a request or response body, as an agent gets it.
///
/// Keeping `data` keeps the memory of the frame it arrived in; it is never copied.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BodyChunk<'a> {
    /// Joins all events of one HTTP request.
    pub correlation_id: &'a str,
    /// The bytes themselves.
    pub data: Bytes,
    /// Whether the body ends with this chunk.
    pub is_last: bool,
    /// Size of the whole body in bytes, where known.
    pub total_size: Option<usize>,
    /// Which chunk, counted from 0.
    pub chunk_index: u32,
    /// Bytes of the body that passed so far, this chunk included.
    pub bytes_so_far: usize,
}

impl BodyChunk<'_> {
    /// A copy that borrows nothing, as a piece of a request body. The data is shared.
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

    /// A copy that borrows nothing, as a piece of a response body. The data is shared.
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
