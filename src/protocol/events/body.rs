//! The events for chunks of bodies.

use crate::protocol::bodies;
use bytes::Bytes;
use serde::{Deserialize, Serialize};

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
}

/// Defines the events for the chunks of one kind of body, which differ in what they call the bytes
/// that have passed.
macro_rules! body_chunk_event {
    (
        $body:literal, $passed:literal, $(#[doc = $example:expr])*
        $borrowed:ident, $owned:ident { $count:ident, $with_count:ident, $to_event:ident }
    ) => {
        #[doc = concat!("Chunk of a ", $body, " body, owned.")]
        #[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
        pub struct $owned {
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
            #[doc = concat!("Bytes of the body ", $passed, " so far, this chunk included.")]
            #[serde(default)]
            pub $count: usize,
        }

        #[doc = concat!(
            "Event for a chunk of a ", $body,
            " body, borrowed: sent without allocating or copying the data.",
        )]
        $(#[doc = $example])*
        #[derive(Debug, Clone, PartialEq, Eq)]
        pub struct $borrowed<'a>(pub BodyChunk<'a>);

        impl $owned {
            #[doc = concat!(
                "Creates a chunk of a body of unknown size. Sets `", stringify!($count),
                "` to the size of the chunk.",
            )]
            pub fn new(
                correlation_id: impl Into<String>,
                data: impl Into<Bytes>,
                chunk_index: u32,
                is_last: bool,
            ) -> Self {
                let data = data.into();
                Self {
                    correlation_id: correlation_id.into(),
                    $count: data.len(),
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

            #[doc = concat!("Sets the number of bytes of the body ", $passed, " so far.")]
            #[must_use]
            pub fn $with_count(mut self, bytes: usize) -> Self {
                self.$count = bytes;
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
                    bytes_so_far: self.$count,
                }
            }
        }

        impl BodyChunk<'_> {
            #[doc = concat!(
                "Returns an owned event for a ", $body, " body. The data is shared, not copied.",
            )]
            pub fn $to_event(&self) -> $owned {
                $owned {
                    correlation_id: self.correlation_id.to_owned(),
                    data: self.data.clone(),
                    is_last: self.is_last,
                    total_size: self.total_size,
                    chunk_index: self.chunk_index,
                    $count: self.bytes_so_far,
                }
            }
        }
    };
}

body_chunk_event! {
    "request", "received",
    ///
    /// ```no_run
    /// # async fn example(
    /// #     exchange: &mut tollgate::Exchange,
    /// #     data: tollgate::Bytes,
    /// # ) -> Result<(), tollgate::CallError> {
    /// use tollgate::{BodyChunk, RequestBodyChunk};
    ///
    /// let chunk = RequestBodyChunk(BodyChunk::new("request-1", data, 0, true));
    /// exchange.push(&chunk).await?;
    /// # Ok(())
    /// # }
    /// ```
    RequestBodyChunk, RequestBodyChunkEvent { bytes_received, with_bytes_received, to_request_event }
}

body_chunk_event! {
    "response", "sent",
    ResponseBodyChunk, ResponseBodyChunkEvent { bytes_sent, with_bytes_sent, to_response_event }
}

/// Alias for compatibility with `zentinel-agent-protocol`, which has a second type for binary data.
/// Here the data of every chunk is binary.
pub type BinaryRequestBodyChunkEvent = RequestBodyChunkEvent;

/// Alias for compatibility with `zentinel-agent-protocol`, like [`BinaryRequestBodyChunkEvent`].
pub type BinaryResponseBodyChunkEvent = ResponseBodyChunkEvent;
