use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;

/// Encoding of the payloads on a connection, used once the handshake is complete.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[non_exhaustive]
pub enum Encoding {
    /// JSON text, which every peer supports.
    #[default]
    #[serde(rename = "json")]
    Json,
    /// MessagePack: compact and fast to decode. Preferred if both sides support it.
    #[serde(rename = "msgpack")]
    MessagePack,
    /// Protobuf, the encoding of gRPC connections. It is never offered or chosen in a handshake.
    #[cfg(feature = "grpc")]
    #[serde(rename = "protobuf", skip_deserializing)]
    Protobuf,
}

impl Encoding {
    /// Returns the name of the encoding: `json`, `msgpack` or `protobuf`.
    ///
    /// Handshakes use the first two.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Json => "json",
            Self::MessagePack => "msgpack",
            #[cfg(feature = "grpc")]
            Self::Protobuf => "protobuf",
        }
    }
}

impl fmt::Display for Encoding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl FromStr for Encoding {
    type Err = UnknownEncoding;

    fn from_str(name: &str) -> Result<Self, Self::Err> {
        match name {
            "json" => Ok(Self::Json),
            "msgpack" => Ok(Self::MessagePack),
            _ => Err(UnknownEncoding),
        }
    }
}

/// The name of an encoding is neither `json` nor `msgpack`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("unknown encoding: expected `json` or `msgpack`")]
pub struct UnknownEncoding;
