//! Where stream ids are in a payload.

use super::decode::{DecodeErrorKind, Decoded};
use super::{Encoding, StreamId};
use bytes::{Buf, BytesMut};

impl StreamId {
    pub(crate) fn write(self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.0.to_be_bytes());
    }

    /// Removes the stream id from the start of a payload. In protobuf it is read from the envelope.
    pub(crate) fn take_from(payload: &mut BytesMut, encoding: Encoding) -> Decoded<Self> {
        #[cfg(feature = "grpc")]
        if encoding == Encoding::Protobuf {
            return super::protobuf::stream_id(payload);
        }
        let _ = encoding;
        let id = payload.first_chunk().copied();
        let id = id.ok_or(DecodeErrorKind::CutShort)?;
        payload.advance(size_of_val(&id));
        Ok(Self(u64::from_be_bytes(id)))
    }
}
