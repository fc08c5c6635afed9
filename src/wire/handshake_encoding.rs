//! The encodings of the handshake.

use super::handshake::{HandshakeRequest, HandshakeResponse, from_json, to_json};
use super::{DecodeError, Encoding};

/// Implements encoding and decoding: as protobuf if that is the only encoding of the connection,
/// else as JSON.
macro_rules! handshake_messages {
    ($($message:ident, $name:literal, $encode:ident, $decode:ident;)*) => {$(
        impl $message {
            /// Encodes the message for a connection that supports these encodings.
            pub(crate) fn encode_for(&self, encodings: &[Encoding]) -> Vec<u8> {
                #[cfg(feature = "grpc")]
                if encodings == [Encoding::Protobuf] {
                    return super::protobuf::handshake::$encode(self);
                }
                let _ = encodings;
                to_json(self)
            }

            /// Decodes the output of [`Self::encode_for`].
            pub(crate) fn decode_for(
                encodings: &[Encoding],
                payload: &[u8],
            ) -> Result<Self, DecodeError> {
                #[cfg(feature = "grpc")]
                if encodings == [Encoding::Protobuf] {
                    return super::protobuf::handshake::$decode(payload);
                }
                let _ = encodings;
                from_json($name, payload)
            }
        }
    )*};
}

handshake_messages! {
    HandshakeRequest, "handshake request", encode_request, decode_request;
    HandshakeResponse, "handshake response", encode_response, decode_response;
}
