//! Decisions of agents and the changes that they ask for.

use super::bodies;
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use std::collections::HashMap;

/// Decision of an agent on a request or response.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Decision {
    /// Let the request or response pass.
    #[default]
    Allow,
    /// Answer the client in place of the upstream.
    Block {
        /// HTTP status of the response.
        status: u16,
        /// Body of the response.
        body: Option<String>,
        /// Headers of the response.
        headers: Option<HashMap<String, String>>,
    },
    /// Redirect the client.
    Redirect {
        /// Value of the `location` header.
        url: String,
        /// HTTP status, 3xx.
        status: u16,
    },
    /// Require the client to pass a challenge first.
    Challenge {
        /// Type of challenge, such as `captcha`.
        challenge_type: String,
        /// Parameters of the challenge.
        params: HashMap<String, String>,
    },
}

impl Decision {
    /// Returns the name of this kind of decision: `allow`, `block`, `redirect` or `challenge`.
    pub const fn as_str(&self) -> &'static str {
        match self {
            Self::Allow => "allow",
            Self::Block { .. } => "block",
            Self::Redirect { .. } => "redirect",
            Self::Challenge { .. } => "challenge",
        }
    }
}

/// A change to the headers of a request or response.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum HeaderOp {
    /// Replace all values of a header.
    Set {
        /// Header name.
        name: String,
        /// New and only value.
        value: String,
    },
    /// Add a value and keep the existing ones.
    Add {
        /// Header name.
        name: String,
        /// Value to add.
        value: String,
    },
    /// Remove a header with all its values.
    Remove {
        /// Header name.
        name: String,
    },
}

/// Change to one body chunk: keep, replace or drop it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BodyMutation {
    /// New content of the chunk. `None` keeps the chunk, an empty value drops it.
    #[serde(with = "bodies::optional", default)]
    pub data: Option<Bytes>,
    /// Index of the chunk in the body, counted from 0.
    #[serde(default)]
    pub chunk_index: u32,
}

impl BodyMutation {
    /// Creates a mutation that keeps a chunk.
    pub const fn pass_through(chunk_index: u32) -> Self {
        Self {
            data: None,
            chunk_index,
        }
    }

    /// Creates a mutation that removes a chunk from the body.
    pub const fn drop_chunk(chunk_index: u32) -> Self {
        Self {
            data: Some(Bytes::new()),
            chunk_index,
        }
    }

    /// Creates a mutation that replaces a chunk by `data`.
    pub fn replace(chunk_index: u32, data: impl Into<Bytes>) -> Self {
        Self {
            data: Some(data.into()),
            chunk_index,
        }
    }

    /// Returns whether the chunk is kept unchanged.
    pub const fn is_pass_through(&self) -> bool {
        self.data.is_none()
    }

    /// Returns whether the chunk is removed.
    pub fn is_drop(&self) -> bool {
        self.data.as_ref().is_some_and(Bytes::is_empty)
    }
}

/// Decision of an agent on a websocket frame.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum WebSocketDecision {
    /// Forward the frame.
    #[default]
    Allow,
    /// Drop the frame.
    Drop,
    /// Close the websocket connection.
    Close {
        /// Close code of RFC 6455.
        code: u16,
        /// Close reason.
        reason: String,
    },
}
