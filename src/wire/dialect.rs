use super::{Encoding, MAX_FRAME_LEN};

/// How messages are written on one connection, as its handshake has settled it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Dialect {
    pub(crate) encoding: Encoding,
    pub(crate) extension: Option<Extension>,
    /// The largest length of a frame that is written.
    pub(crate) max_frame: usize,
}

/// What both sides know beyond the published protocol; described in `docs/protocol.md`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Extension {
    /// Stream ids in front of events and answers; bodies in MessagePack are bytes.
    V1,
}

impl Extension {
    /// Its number in the handshake.
    pub(crate) const fn number(self) -> u64 {
        match self {
            Self::V1 => 1,
        }
    }

    pub(crate) fn from_number(number: u64) -> Option<Self> {
        (number == Self::V1.number()).then_some(Self::V1)
    }
}

impl Dialect {
    /// The protocol as the published crate speaks it.
    pub(crate) const fn published(encoding: Encoding) -> Self {
        Self::new(encoding, None)
    }

    pub(crate) const fn new(encoding: Encoding, extension: Option<Extension>) -> Self {
        Self {
            encoding,
            extension,
            max_frame: MAX_FRAME_LEN,
        }
    }

    /// The same over a link that carries no larger frames.
    pub(crate) const fn within(self, max_frame: usize) -> Self {
        Self { max_frame, ..self }
    }

    /// Whether events and answers carry a stream id.
    pub(crate) const fn has_streams(self) -> bool {
        self.extension.is_some()
    }

    pub(crate) const fn bodies(self) -> Bodies {
        #[cfg(feature = "grpc")]
        if matches!(self.encoding, Encoding::Protobuf) {
            return Bodies::Binary;
        }
        match self.extension {
            Some(Extension::V1) => Bodies::Binary,
            None => Bodies::Base64,
        }
    }
}

/// How MessagePack carries bodies. In JSON they are base64 text always.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Bodies {
    /// Base64 text: the published crate takes bytes for base64 where it can.
    Base64,
    Binary,
}

impl Bodies {
    /// Bytes of a body that are written into the buffer of its message.
    pub(crate) const fn written_len(self, body_len: usize) -> usize {
        match self {
            Self::Base64 => body_len.div_ceil(3) * 4,
            Self::Binary if body_len <= MAX_INLINE_BODY => body_len,
            Self::Binary => 0,
        }
    }
}

/// Bodies up to this many bytes are copied behind what is written before them: that costs less than the
/// system's handling of one more piece of memory.
pub(crate) const MAX_INLINE_BODY: usize = 256;
