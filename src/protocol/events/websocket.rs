//! The event for frames of a websocket connection.

use crate::protocol::bodies;
use bytes::Bytes;
use serde::{Deserialize, Serialize};

/// A frame of a websocket connection, owned.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WebSocketFrameEvent {
    /// Id that joins all events of one HTTP request.
    pub correlation_id: String,
    /// Kind of frame.
    pub opcode: WebSocketOpcode,
    /// Payload, unmasked.
    #[serde(with = "bodies")]
    pub data: Bytes,
    /// Set if the client sent the frame.
    pub client_to_server: bool,
    /// Index of the frame in its direction, counted from 0.
    pub frame_index: u64,
    /// Set if the message ends with this frame.
    pub fin: bool,
    /// Id of the proxy's route.
    #[serde(default)]
    pub route_id: Option<String>,
    /// IP address of the client.
    pub client_ip: String,
}

impl WebSocketFrameEvent {
    /// Returns the borrowed form of this event. The data is shared, not copied.
    pub fn borrowed(&self) -> WebSocketFrame<'_> {
        WebSocketFrame {
            correlation_id: &self.correlation_id,
            opcode: self.opcode,
            data: self.data.clone(),
            client_to_server: self.client_to_server,
            frame_index: self.frame_index,
            fin: self.fin,
            route_id: self.route_id.as_deref(),
            client_ip: &self.client_ip,
        }
    }
}

/// Kind of a websocket frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum WebSocketOpcode {
    /// Continues the message of the previous frame.
    Continuation,
    /// Begins a text message.
    Text,
    /// Begins a binary message.
    Binary,
    /// Closes the connection.
    Close,
    /// Asks the peer for a pong.
    Ping,
    /// Answers a ping.
    Pong,
}

impl WebSocketOpcode {
    /// Returns the name of this kind on the wire.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Continuation => "continuation",
            Self::Text => "text",
            Self::Binary => "binary",
            Self::Close => "close",
            Self::Ping => "ping",
            Self::Pong => "pong",
        }
    }

    /// Returns the kind with this name on the wire; `None` if it is unknown.
    pub fn from_wire(name: &str) -> Option<Self> {
        Some(match name {
            "continuation" => Self::Continuation,
            "text" => Self::Text,
            "binary" => Self::Binary,
            "close" => Self::Close,
            "ping" => Self::Ping,
            "pong" => Self::Pong,
            _ => return None,
        })
    }
}

/// A frame of a websocket connection, borrowed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WebSocketFrame<'a> {
    /// Id that joins all events of one HTTP request.
    pub correlation_id: &'a str,
    /// Kind of frame.
    pub opcode: WebSocketOpcode,
    /// Payload, unmasked.
    pub data: Bytes,
    /// Set if the client sent the frame.
    pub client_to_server: bool,
    /// Index of the frame in its direction, counted from 0.
    pub frame_index: u64,
    /// Set if the message ends with this frame.
    pub fin: bool,
    /// Id of the proxy's route.
    pub route_id: Option<&'a str>,
    /// IP address of the client.
    pub client_ip: &'a str,
}

impl WebSocketFrame<'_> {
    /// Copies this event to its owned form. The data is shared, not copied.
    pub fn to_event(&self) -> WebSocketFrameEvent {
        WebSocketFrameEvent {
            correlation_id: self.correlation_id.to_owned(),
            opcode: self.opcode,
            data: self.data.clone(),
            client_to_server: self.client_to_server,
            frame_index: self.frame_index,
            fin: self.fin,
            route_id: self.route_id.map(str::to_owned),
            client_ip: self.client_ip.to_owned(),
        }
    }
}
