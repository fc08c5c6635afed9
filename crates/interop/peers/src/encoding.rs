//! The payload encoding of a connection.
//!
//! zentinel-agent-protocol has no option for it. Its client offers the encodings of
//! its build (MessagePack before JSON, or only JSON), and its agent accepts the first
//! offer that it supports. So an encoding can be selected only by building with or
//! without the feature `binary-uds`. At run time a peer can only stop if the
//! negotiated encoding is not the expected one.

use anyhow::{bail, Result};
use clap::ValueEnum;
use zentinel_agent_protocol::v2::UdsEncoding;

/// Set if this build supports MessagePack.
const BINARY: bool = cfg!(feature = "binary-uds");

/// The encoding the caller expects.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Expected {
    /// Any encoding.
    Auto,
    Json,
    Msgpack,
}

impl Expected {
    /// Returns whether the negotiated encoding is the expected one.
    pub fn matches(self, agreed: Agreed) -> bool {
        match self {
            Self::Auto => true,
            Self::Json => agreed == Agreed::Of(UdsEncoding::Json),
            Self::Msgpack => agreed == Agreed::Of(UdsEncoding::MessagePack),
        }
    }

    /// Fails if an agent of this build does not use this encoding with every proxy. The
    /// build and the proxy's offer decide.
    pub fn check_agent(self) -> Result<()> {
        match self {
            Self::Json if BINARY => bail!(
                "an agent built with binary-uds uses MessagePack if it is offered first; \
                 build with --no-default-features --features json for JSON"
            ),
            Self::Msgpack if !BINARY => bail!("this agent was built without binary-uds"),
            _ => Ok(()),
        }
    }
}

/// Returns the encodings of this build, in order of preference.
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
    /// Negotiated over a socket.
    Of(UdsEncoding),
    /// The encoding of gRPC, which is not negotiated.
    Protobuf,
}

impl Agreed {
    /// Returns the name on the wire.
    pub fn name(self) -> &'static str {
        match self {
            Self::Of(UdsEncoding::Json) => "json",
            Self::Of(UdsEncoding::MessagePack) => "msgpack",
            Self::Protobuf => "protobuf",
        }
    }
}
