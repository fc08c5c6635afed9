//! Events whose bodies are base64 text, and those whose bodies are bytes.
//!
//! All other events are tollgate's own types.

use crate::base64;
use serde::{Deserialize, Serialize};
use tollgate::Bytes;
use tollgate::events::BodyChunk;

/// Declares both forms of a chunk of a body.
macro_rules! body_chunk {
    ($body:literal, $passed:literal, $text:ident, $binary:ident { $count:ident, $with_count:ident }) => {
        #[doc = concat!("Chunk of a ", $body, " body, with base64 text.")]
        #[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
        pub struct $text {
            /// Id that joins the events of one HTTP request.
            pub correlation_id: String,
            /// The chunk, in base64.
            pub data: String,
            /// Set for the last chunk of the body.
            pub is_last: bool,
            /// Size of the whole body in bytes, if it is known.
            pub total_size: Option<usize>,
            /// Index of the chunk, counted from 0.
            #[serde(default)]
            pub chunk_index: u32,
            #[doc = concat!("Bytes of the body ", $passed, " so far, this chunk included.")]
            #[serde(default)]
            pub $count: usize,
        }

        #[doc = concat!("Chunk of a ", $body, " body, with bytes, which are shared.")]
        #[derive(Debug, Clone, PartialEq, Eq)]
        pub struct $binary {
            /// Id that joins the events of one HTTP request.
            pub correlation_id: String,
            /// The chunk.
            pub data: Bytes,
            /// Set for the last chunk of the body.
            pub is_last: bool,
            /// Size of the whole body in bytes, if it is known.
            pub total_size: Option<usize>,
            /// Index of the chunk, counted from 0.
            pub chunk_index: u32,
            #[doc = concat!("Bytes of the body ", $passed, " so far, this chunk included.")]
            pub $count: usize,
        }

        impl $binary {
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

            pub(crate) fn borrowed(&self) -> BodyChunk<'_> {
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

        impl $text {
            pub(crate) fn borrowed(&self) -> BodyChunk<'_> {
                BodyChunk {
                    correlation_id: &self.correlation_id,
                    data: base64::decode_or_keep(&self.data),
                    is_last: self.is_last,
                    total_size: self.total_size,
                    chunk_index: self.chunk_index,
                    bytes_so_far: self.$count,
                }
            }

            pub(crate) fn of(chunk: BodyChunk<'_>) -> Self {
                Self {
                    correlation_id: chunk.correlation_id.to_owned(),
                    data: base64::encode(&chunk.data),
                    is_last: chunk.is_last,
                    total_size: chunk.total_size,
                    chunk_index: chunk.chunk_index,
                    $count: chunk.bytes_so_far,
                }
            }
        }

        impl From<$binary> for $text {
            fn from(event: $binary) -> Self {
                Self {
                    data: base64::encode(&event.data),
                    correlation_id: event.correlation_id,
                    is_last: event.is_last,
                    total_size: event.total_size,
                    chunk_index: event.chunk_index,
                    $count: event.$count,
                }
            }
        }

        impl From<&$text> for $binary {
            /// Decodes the data. Text that is not base64 stands for its own bytes.
            fn from(event: &$text) -> Self {
                Self {
                    correlation_id: event.correlation_id.clone(),
                    data: base64::decode_or_keep(&event.data),
                    is_last: event.is_last,
                    total_size: event.total_size,
                    chunk_index: event.chunk_index,
                    $count: event.$count,
                }
            }
        }
    };
}

body_chunk! {
    "request", "received",
    RequestBodyChunkEvent, BinaryRequestBodyChunkEvent { bytes_received, with_bytes_received }
}
body_chunk! {
    "response", "sent",
    ResponseBodyChunkEvent, BinaryResponseBodyChunkEvent { bytes_sent, with_bytes_sent }
}

/// A WebSocket frame.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WebSocketFrameEvent {
    /// Id that joins the events of one connection.
    pub correlation_id: String,
    /// Name of the opcode: see [`WebSocketOpcode::as_str`].
    pub opcode: String,
    /// The payload, in base64.
    pub data: String,
    /// Direction of the frame.
    pub client_to_server: bool,
    /// Index of the frame in its direction, counted from 0.
    pub frame_index: u64,
    /// Set for the last frame of a message.
    pub fin: bool,
    /// Route that the request took.
    pub route_id: Option<String>,
    /// Address of the client.
    pub client_ip: String,
}

impl WebSocketFrameEvent {
    /// Returns the event as tollgate sends it; `None` if the opcode is none.
    pub(crate) fn borrowed(&self) -> Option<tollgate::events::WebSocketFrame<'_>> {
        Some(tollgate::events::WebSocketFrame {
            correlation_id: &self.correlation_id,
            opcode: WebSocketOpcode::from_name(&self.opcode)?.into(),
            data: base64::decode_or_keep(&self.data),
            client_to_server: self.client_to_server,
            frame_index: self.frame_index,
            fin: self.fin,
            route_id: self.route_id.as_deref(),
            client_ip: &self.client_ip,
        })
    }

    pub(crate) fn of(frame: tollgate::events::WebSocketFrame<'_>) -> Self {
        Self {
            correlation_id: frame.correlation_id.to_owned(),
            opcode: frame.opcode.as_str().to_owned(),
            data: base64::encode(&frame.data),
            client_to_server: frame.client_to_server,
            frame_index: frame.frame_index,
            fin: frame.fin,
            route_id: frame.route_id.map(str::to_owned),
            client_ip: frame.client_ip.to_owned(),
        }
    }
}

/// Declares the opcodes with their names and numbers.
macro_rules! opcodes {
    ($($variant:ident = $number:literal $name:literal,)*) => {
        /// Opcode of a WebSocket frame.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
        #[serde(rename_all = "snake_case")]
        pub enum WebSocketOpcode {
            $(
                #[doc = concat!("The opcode `", $name, "`.")]
                $variant,
            )*
        }

        impl WebSocketOpcode {
            /// Returns the name, as in [`WebSocketFrameEvent::opcode`].
            pub fn as_str(&self) -> &'static str {
                match self {
                    $(Self::$variant => $name,)*
                }
            }

            /// Returns the opcode of a number, as RFC 6455 assigns them.
            pub fn from_u8(value: u8) -> Option<Self> {
                match value {
                    $($number => Some(Self::$variant),)*
                    _ => None,
                }
            }

            /// Returns the number.
            pub fn as_u8(&self) -> u8 {
                match self {
                    $(Self::$variant => $number,)*
                }
            }

            fn from_name(name: &str) -> Option<Self> {
                match name {
                    $($name => Some(Self::$variant),)*
                    _ => None,
                }
            }
        }

        impl From<WebSocketOpcode> for tollgate::events::WebSocketOpcode {
            fn from(opcode: WebSocketOpcode) -> Self {
                match opcode {
                    $(WebSocketOpcode::$variant => Self::$variant,)*
                }
            }
        }
    };
}

opcodes! {
    Continuation = 0x0 "continuation",
    Text = 0x1 "text",
    Binary = 0x2 "binary",
    Close = 0x8 "close",
    Ping = 0x9 "ping",
    Pong = 0xA "pong",
}
