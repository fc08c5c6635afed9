use super::bodies;
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use std::collections::HashMap;

/// What an agent wants done with a request or response.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Decision {
    /// Go on.
    #[default]
    Allow,
    /// Answer the client in the upstream's stead.
    Block {
        /// HTTP status of the answer.
        status: u16,
        /// Body of the answer.
        body: Option<String>,
        /// Headers of the answer.
        headers: Option<HashMap<String, String>>,
    },
    /// Send the client elsewhere.
    Redirect {
        /// Value of the `location` header.
        url: String,
        /// HTTP status, 3xx.
        status: u16,
    },
    /// Ask the client to prove something first.
    Challenge {
        /// Kind of challenge, such as `captcha`.
        challenge_type: String,
        /// What the challenge needs.
        params: HashMap<String, String>,
    },
}

impl Decision {
    /// The name of this kind of decision: `allow`, `block`, `redirect` or `challenge`.
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
    /// Replace every value of a header.
    Set {
        /// Header name.
        name: String,
        /// The only value from now on.
        value: String,
    },
    /// Add a value beside those that are there.
    Add {
        /// Header name.
        name: String,
        /// The value to add.
        value: String,
    },
    /// Remove a header with all its values.
    Remove {
        /// Header name.
        name: String,
    },
}

/// What becomes of one body chunk.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BodyMutation {
    /// `None` leaves the chunk as it is, empty drops it, anything else replaces it.
    #[serde(with = "bodies::optional", default)]
    pub data: Option<Bytes>,
    /// Which chunk of the body, counted from 0.
    #[serde(default)]
    pub chunk_index: u32,
}

impl BodyMutation {
    /// Leaves a chunk as it is.
    pub const fn pass_through(chunk_index: u32) -> Self {
        Self {
            data: None,
            chunk_index,
        }
    }

    /// Removes a chunk from the body.
    pub const fn drop_chunk(chunk_index: u32) -> Self {
        Self {
            data: Some(Bytes::new()),
            chunk_index,
        }
    }

    /// Puts `data` in the place of a chunk.
    pub fn replace(chunk_index: u32, data: impl Into<Bytes>) -> Self {
        Self {
            data: Some(data.into()),
            chunk_index,
        }
    }

    /// Whether the chunk stays as it is.
    pub const fn is_pass_through(&self) -> bool {
        self.data.is_none()
    }

    /// Whether the chunk is removed.
    pub fn is_drop(&self) -> bool {
        self.data.as_ref().is_some_and(Bytes::is_empty)
    }
}

/// What becomes of a websocket frame.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum WebSocketDecision {
    /// Forward the frame.
    #[default]
    Allow,
    /// Swallow the frame.
    Drop,
    /// Close the connection.
    Close {
        /// Close code of RFC 6455.
        code: u16,
        /// Close reason.
        reason: String,
    },
}
