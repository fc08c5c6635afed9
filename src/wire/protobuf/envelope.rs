//! Envelopes: the messages `ProxyToAgent` and `AgentToProxy`, in which every message of a stream is
//! wrapped.

use super::reader::{Reader, Value, set_once};
use super::writer::Writer;
use crate::wire::decode::{DecodeErrorKind, Decoded};
use crate::wire::{MessageType, StreamId};

/// Number of the field of both envelopes that holds the stream id.
const STREAM_ID: u32 = 1000;

/// Encoded tag of that field: its number and the wire type of a 64-bit value.
const STREAM_ID_TAG: [u8; 2] = [0xc1, 0x3e];

/// Direction of a message, which determines the meaning of the field numbers of its envelope.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Direction {
    ToAgent,
    ToProxy,
}

/// Defines the messages of both envelopes by the numbers of their fields.
macro_rules! envelopes {
    ($($direction:ident { $($field:literal = $message:ident,)* })*) => {
        impl Direction {
            /// Returns the type of the message in a field; `None` if it is unknown.
            const fn message_in(self, field: u32) -> Option<MessageType> {
                Some(match (self, field) {
                    $($((Self::$direction, $field) => MessageType::$message,)*)*
                    _ => return None,
                })
            }
        }

        /// Returns the number of the envelope's field that holds a message of this type.
        #[inline(always)]
        const fn field_of(message: MessageType) -> u32 {
            match message {
                $($(MessageType::$message => $field,)*)*
            }
        }
    };
}

envelopes! {
    ToAgent {
        1 = HandshakeRequest,
        2 = RequestHeaders,
        3 = RequestBodyChunk,
        4 = ResponseHeaders,
        5 = ResponseBodyChunk,
        6 = WebSocketFrame,
        7 = GuardrailInspect,
        8 = RequestComplete,
        9 = Cancel,
        10 = Configure,
        11 = Ping,
        1001 = ConfigUpdateResponse,
        1002 = Shutdown,
        1003 = Drain,
    }
    ToProxy {
        1 = HandshakeResponse,
        2 = AgentResponse,
        3 = HealthStatus,
        4 = MetricsReport,
        5 = ConfigUpdateRequest,
        6 = FlowControl,
        7 = Pong,
        8 = Log,
    }
}

impl Direction {
    /// Returns the type of the message in an envelope; `None` if it is unknown or absent.
    pub(crate) fn message_type(self, envelope: &[u8]) -> Option<MessageType> {
        let mut found = None;
        let (_, mut fields) = split_stream_id(envelope);
        // Stops at malformed fields. Decoding the message fails there, too.
        while let Ok(Some((field, _))) = fields.next() {
            found = self.message_in(field).or(found);
        }
        found
    }
}

/// Writes a message in its envelope.
pub(super) fn write(
    message: MessageType,
    stream: Option<StreamId>,
    writer: &mut Writer<'_>,
    content: impl FnOnce(&mut Writer<'_>),
) {
    if let Some(StreamId(id)) = stream {
        writer.some_fixed64(STREAM_ID, id);
    }
    let field = field_of(message);
    match message {
        MessageType::AgentResponse => writer.message(field, content),
        _ => writer.large_message(field, content),
    }
}

/// Returns the encoded message in an envelope.
pub(super) fn open(message: MessageType, envelope: &[u8]) -> Decoded<&[u8]> {
    let (mut stream, fields) = split_stream_id(envelope);
    let mut content = None;
    fields.each(|field, value| {
        if field == STREAM_ID {
            return set_once(&mut stream, value.fixed64()?);
        }
        if field != field_of(message) {
            return Ok(());
        }
        set_once(&mut content, value.bytes()?)
    })?;
    content.ok_or(DecodeErrorKind::Missing("message"))
}

/// Returns the stream id in an envelope.
pub(crate) fn stream_id(envelope: &[u8]) -> Decoded<StreamId> {
    let (mut stream, mut fields) = split_stream_id(envelope);
    while stream.is_none()
        && let Some((field, value)) = fields.next()?
    {
        if let (STREAM_ID, Value::Fixed64(id)) = (field, value) {
            stream = Some(id);
        }
    }
    stream
        .map(StreamId)
        .ok_or(DecodeErrorKind::Missing("stream_id"))
}

/// Returns the stream id, if it is the first field, as [`write`] writes it, and a reader of the
/// fields after it.
#[inline]
fn split_stream_id(envelope: &[u8]) -> (Option<u64>, Reader<'_>) {
    let leading = envelope
        .strip_prefix(&STREAM_ID_TAG)
        .and_then(|rest| rest.split_first_chunk());
    match leading {
        Some((id, rest)) => (Some(u64::from_le_bytes(*id)), Reader::new(rest)),
        None => (None, Reader::new(envelope)),
    }
}
