use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;

/// How payloads are written once the handshake is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[non_exhaustive]
pub enum Encoding {
    /// Text that every peer understands.
    #[default]
    #[serde(rename = "json")]
    Json,
    /// Compact and quick to read; the first choice where both sides have it.
    #[serde(rename = "msgpack")]
    MessagePack,
    /// What gRPC connections speak, and they alone: it is never offered or chosen.
    #[cfg(feature = "grpc")]
    #[serde(rename = "protobuf", skip_deserializing)]
    Protobuf,
}

impl Encoding {
    /// Its name: `json`, `msgpack` or `protobuf`. The first two are those of the handshake.
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

/// A name that is neither `json` nor `msgpack`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("unknown encoding; there are json and msgpack")]
pub struct UnknownEncoding;
