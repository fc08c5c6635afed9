//! Serde functions for bodies, which are bytes in memory and base64 text in a serialized message.

use bytes::Bytes;
use serde::de::{Error, Unexpected};
use serde::{Deserialize, Deserializer, Serializer};
use std::borrow::Cow;

pub(super) fn serialize<S: Serializer>(data: &Bytes, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&base64_simd::STANDARD.encode_to_string(data))
}

pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Bytes, D::Error> {
    decode(&Cow::<'de, str>::deserialize(deserializer)?)
}

fn decode<E: Error>(text: &str) -> Result<Bytes, E> {
    base64_simd::STANDARD
        .decode_to_vec(text)
        .map(Bytes::from)
        .map_err(|_| E::invalid_value(Unexpected::Str(text), &"base64 text"))
}

/// Returns the bytes of a text: what it encodes if it is base64, otherwise its own, and whether
/// they are its own.
pub(crate) fn from_text(text: &str) -> (Bytes, bool) {
    match base64_simd::STANDARD.decode_to_vec(text) {
        Ok(data) => (data.into(), false),
        Err(_) => (Bytes::copy_from_slice(text.as_bytes()), true),
    }
}
