//! The payload encoding of a connection.
//!
//! The published crate has no switch for it. Its client offers what it was built
//! with (MessagePack before JSON, or JSON alone); its agent takes the first
//! offer it can read. So an encoding can be *asked for* only by building with or
//! without the feature `binary-uds`; what a peer can do at run time is refuse to
//! go on with another one than the caller expects.

use anyhow::{bail, Result};
use clap::ValueEnum;
use zentinel_agent_protocol::v2::UdsEncoding;

/// Whether this build can read and write MessagePack.
const BINARY: bool = cfg!(feature = "binary-uds");

/// The encoding the caller expects.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Expected {
    /// Whatever the two sides agree on.
    Auto,
    Json,
    Msgpack,
}

impl Expected {
    /// Whether a connection with this encoding is what the caller expects.
    pub fn matches(self, agreed: Agreed) -> bool {
        match self {
            Self::Auto => true,
            Self::Json => agreed == Agreed::Of(UdsEncoding::Json),
            Self::Msgpack => agreed == Agreed::Of(UdsEncoding::MessagePack),
        }
    }

    /// Fails if an agent of this build cannot promise the encoding to every
    /// proxy, as only the proxy's offer and the build decide.
    pub fn promised_by_agent(self) -> Result<()> {
        match self {
            Self::Json if BINARY => bail!(
                "an agent built with binary-uds takes MessagePack when it is offered first; \
                 build with --no-default-features for JSON"
            ),
            Self::Msgpack if !BINARY => bail!("this agent was built without binary-uds"),
            _ => Ok(()),
        }
    }
}

/// The encodings of this build, best first.
pub fn built_in() -> &'static [&'static str] {
    if BINARY {
        &["msgpack", "json"]
    } else {
        &["json"]
    }
}

/// The encoding of a connection.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Agreed {
    /// One of those that are agreed on over a socket.
    Of(UdsEncoding),
    /// What gRPC has, about which there is nothing to agree.
    Protobuf,
}

impl Agreed {
    /// Its name on the wire.
    pub fn name(self) -> &'static str {
        match self {
            Self::Of(UdsEncoding::Json) => "json",
            Self::Of(UdsEncoding::MessagePack) => "msgpack",
            Self::Protobuf => "protobuf",
        }
    }
}
