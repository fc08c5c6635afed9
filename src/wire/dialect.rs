//! The variant of the protocol that one connection uses.

use super::{Encoding, MAX_FRAME_LEN};

/// Bodies up to this many bytes are copied into the buffer of their message.
///
/// Copying them costs less than passing another buffer to the kernel.
pub(crate) const MAX_INLINE_BODY: usize = 256;

/// Encoding, extension and frame limit of one connection, as its handshake negotiated them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Dialect {
    pub(crate) encoding: Encoding,
    pub(crate) extension: Option<Extension>,
    /// Largest length of a frame that is sent.
    pub(crate) max_frame: usize,
}

/// Version of the tollgate extension, which two tollgate peers add to the protocol.
///
/// See `docs/protocol.md`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Extension {
    /// Events and responses carry a stream id, and bodies in MessagePack are bytes.
    V1,
    /// Like [`Self::V1`], and in MessagePack events and responses are arrays.
    V2,
}

impl Extension {
    /// All versions, in order of preference.
    pub(crate) const ALL: [Self; 2] = [Self::V2, Self::V1];

    /// Returns the number of the version in the handshake.
    pub(crate) const fn number(self) -> u64 {
        match self {
            Self::V1 => 1,
            Self::V2 => 2,
        }
    }

    pub(crate) fn from_number(number: u64) -> Option<Self> {
        let mut all = Self::ALL.into_iter();
        all.find(|version| version.number() == number)
    }
}

/// Form of events and responses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Form {
    Json,
    /// Maps in MessagePack.
    MessagePack,
    /// Arrays in MessagePack.
    Compact,
    #[cfg(feature = "grpc")]
    Protobuf,
}

impl Dialect {
    /// Returns the protocol as `zentinel-agent-protocol` implements it, without the extension.
    pub(crate) const fn zentinel(encoding: Encoding) -> Self {
        Self::new(encoding, None)
    }

    pub(crate) const fn new(encoding: Encoding, extension: Option<Extension>) -> Self {
        Self {
            encoding,
            extension,
            max_frame: MAX_FRAME_LEN,
        }
    }

    /// Returns this dialect with a limit on the length of frames, for links that have one.
    pub(crate) const fn within(self, max_frame: usize) -> Self {
        Self { max_frame, ..self }
    }

    /// Returns the version of the extension, 0 without it.
    pub(crate) fn extension_version(self) -> u64 {
        self.extension.map_or(0, Extension::number)
    }

    /// Returns whether events and responses carry a stream id.
    pub(crate) const fn has_streams(self) -> bool {
        self.extension.is_some()
    }

    /// Returns whether agents do not answer settings: a pong to the ping behind them accepts them,
    /// and the end of the stream rejects them.
    pub(crate) const fn confirms_settings_by_pong(self) -> bool {
        #[cfg(feature = "grpc")]
        if matches!(self.encoding, Encoding::Protobuf) {
            return self.extension.is_none();
        }
        false
    }

    /// Returns the form of events and responses.
    pub(crate) const fn form(self) -> Form {
        match (self.encoding, self.extension) {
            (Encoding::MessagePack, Some(Extension::V2)) => Form::Compact,
            (Encoding::MessagePack, _) => Form::MessagePack,
            (Encoding::Json, _) => Form::Json,
            #[cfg(feature = "grpc")]
            (Encoding::Protobuf, _) => Form::Protobuf,
        }
    }

    /// Returns whether an agent can ask the proxy to move to another connection.
    pub(crate) const fn moves_by_drain(self) -> bool {
        #[cfg(feature = "grpc")]
        if matches!(self.encoding, Encoding::Protobuf) {
            return false;
        }
        self.extension.is_some()
    }

    pub(crate) const fn bodies(self) -> Bodies {
        #[cfg(feature = "grpc")]
        if matches!(self.encoding, Encoding::Protobuf) {
            return Bodies::Binary;
        }
        match self.extension {
            Some(Extension::V1 | Extension::V2) => Bodies::Binary,
            None => Bodies::Base64,
        }
    }
}

/// Representation of bodies in MessagePack. In JSON, bodies are always base64 text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Bodies {
    /// Base64 text, since `zentinel-agent-protocol` decodes bytes as base64 if they are valid
    /// base64.
    Base64,
    /// Bytes.
    Binary,
}

impl Bodies {
    /// Returns how many bytes a body takes in the buffer of its message.
    pub(crate) const fn written_len(self, body_len: usize) -> usize {
        match self {
            Self::Base64 => body_len.div_ceil(3) * 4,
            Self::Binary if body_len <= MAX_INLINE_BODY => body_len,
            Self::Binary => 0,
        }
    }
}
