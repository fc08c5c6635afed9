//! Decisions of agents and the changes that they ask for.

use super::bodies;
use bytes::Bytes;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::borrow::Cow;
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
///
/// On the wire the content is base64 text. A text that is none is kept as it came: `data` is its
/// bytes, and [`is_plain_text`](Self::is_plain_text) says so. Agents of `zentinel-agent-protocol`
/// may write such a text for a chunk of a request, which the Zentinel proxy forwards undecoded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BodyMutation {
    /// New content of the chunk. `None` keeps the chunk, an empty value drops it.
    pub data: Option<Bytes>,
    /// Index of the chunk in the body, counted from 0.
    pub chunk_index: u32,
    /// Set if `data` came as text that is not base64. It is UTF-8 then.
    is_plain_text: bool,
}

impl BodyMutation {
    /// Creates a mutation that keeps a chunk.
    pub const fn pass_through(chunk_index: u32) -> Self {
        Self {
            data: None,
            chunk_index,
            is_plain_text: false,
        }
    }

    /// Creates a mutation that removes a chunk from the body.
    pub const fn drop_chunk(chunk_index: u32) -> Self {
        Self {
            data: Some(Bytes::new()),
            chunk_index,
            is_plain_text: false,
        }
    }

    /// Creates a mutation that replaces a chunk by `data`.
    pub fn replace(chunk_index: u32, data: impl Into<Bytes>) -> Self {
        Self {
            data: Some(data.into()),
            chunk_index,
            is_plain_text: false,
        }
    }

    /// Creates a mutation from its text on the wire: base64, or a text that stays as it is.
    pub fn from_text(chunk_index: u32, text: &str) -> Self {
        let (data, is_plain_text) = bodies::from_text(text);
        Self {
            data: Some(data),
            chunk_index,
            is_plain_text,
        }
    }

    /// Returns the text of the mutation on the wire, as it came or as it is sent; `None` if the
    /// chunk is kept.
    pub fn text(&self) -> Option<Cow<'_, str>> {
        let data = self.data.as_ref()?;
        Some(match self.plain_text() {
            Some(text) => Cow::Borrowed(text),
            None => Cow::Owned(base64_simd::STANDARD.encode_to_string(data)),
        })
    }

    /// Returns whether the agent sent text that is not base64. The proxies of this crate do not
    /// forward it.
    pub const fn is_plain_text(&self) -> bool {
        self.is_plain_text
    }

    pub(crate) fn plain_text(&self) -> Option<&str> {
        let data = self.data.as_deref().filter(|_| self.is_plain_text)?;
        str::from_utf8(data).ok()
    }

    pub(crate) fn from_parts(data: Option<(Bytes, bool)>, chunk_index: u32) -> Self {
        let (data, is_plain_text) = data.unzip();
        Self {
            data,
            chunk_index,
            is_plain_text: is_plain_text.unwrap_or_default(),
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

/// The form of a mutation in a serialized message.
#[derive(Serialize, Deserialize)]
struct MutationText<'a> {
    #[serde(default)]
    data: Option<Cow<'a, str>>,
    #[serde(default)]
    chunk_index: u32,
}

impl Serialize for BodyMutation {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let form = MutationText {
            data: self.text(),
            chunk_index: self.chunk_index,
        };
        form.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for BodyMutation {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let form = MutationText::deserialize(deserializer)?;
        Ok(form.data.map_or_else(
            || Self::pass_through(form.chunk_index),
            |text| Self::from_text(form.chunk_index, &text),
        ))
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
