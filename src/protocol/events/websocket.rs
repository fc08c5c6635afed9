//! The event for frames of a websocket connection.

use super::forms::owned_and_borrowed;
use crate::protocol::bodies;
use crate::protocol::wire_forms::wire_forms;
use bytes::Bytes;
use serde::{Deserialize, Serialize};

macro_rules! websocket_frame {
    ($define:ident) => {
        $define! {
            /// A frame of a websocket connection
            WebSocketFrame, WebSocketFrameEvent {
                /// Id that joins all events of one HTTP request.
                correlation_id: str = 1,
                /// Kind of frame.
                opcode: WebSocketOpcode = 3,
                /// Payload, unmasked.
                #[serde(with = "bodies")]
                data: Bytes = 4,
                /// Set if the client sent the frame.
                client_to_server: bool = 2,
                /// Index of the frame in its direction, counted from 0.
                frame_index: u64 = 1000,
                /// Set if the message ends with this frame.
                fin: bool = 1001 or true,
                /// Id of the proxy's route.
                #[serde(default)]
                route_id: (Option<str>) = 1002,
                /// IP address of the client.
                client_ip: str = 1003,
            }
        }
    };
}

websocket_frame!(owned_and_borrowed);

pub(crate) use websocket_frame;

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

wire_forms! {
    WebSocketOpcode: as_str -> &'static str, from_wire(name: &str) {
        Continuation = "continuation",
        Text = "text",
        Binary = "binary",
        Close = "close",
        Ping = "ping",
        Pong = "pong",
    }
}
