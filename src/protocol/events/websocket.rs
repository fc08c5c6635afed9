use crate::protocol::bodies;
use bytes::Bytes;
use serde::{Deserialize, Serialize};

/// A frame of an upgraded connection, owned.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WebSocketFrameEvent {
    /// Joins all events of one HTTP request.
    pub correlation_id: String,
    /// What kind of frame.
    pub opcode: WebSocketOpcode,
    /// The payload, unmasked.
    #[serde(with = "bodies")]
    pub data: Bytes,
    /// Whether the client sent it.
    pub client_to_server: bool,
    /// Which frame of its direction, counted from 0.
    pub frame_index: u64,
    /// Whether the message ends with this frame.
    pub fin: bool,
    /// The proxy's route.
    #[serde(default)]
    pub route_id: Option<String>,
    /// Address of the client.
    pub client_ip: String,
}

impl WebSocketFrameEvent {
    /// The same frame, borrowed. The data is shared, not copied.
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

/// The kinds of websocket frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum WebSocketOpcode {
    /// Goes on with the message before.
    Continuation,
    /// Begins a message of text.
    Text,
    /// Begins a message of bytes.
    Binary,
    /// Closes the connection.
    Close,
    /// Asks for a sign of life.
    Ping,
    /// Gives a sign of life.
    Pong,
}

impl WebSocketOpcode {
    /// Its name on the wire.
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

    /// The kind with this name on the wire.
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

/// A frame of an upgraded connection, borrowed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WebSocketFrame<'a> {
    /// Joins all events of one HTTP request.
    pub correlation_id: &'a str,
    /// What kind of frame.
    pub opcode: WebSocketOpcode,
    /// The payload, unmasked.
    pub data: Bytes,
    /// Whether the client sent it.
    pub client_to_server: bool,
    /// Which frame of its direction, counted from 0.
    pub frame_index: u64,
    /// Whether the message ends with this frame.
    pub fin: bool,
    /// The proxy's route.
    pub route_id: Option<&'a str>,
    /// Address of the client.
    pub client_ip: &'a str,
}

impl WebSocketFrame<'_> {
    /// A copy that borrows nothing. The data is shared.
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
