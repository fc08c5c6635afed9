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

/// Serde functions for a body that may be absent.
pub(super) mod optional {
    use super::*;

    pub(in crate::protocol) fn serialize<S: Serializer>(
        data: &Option<Bytes>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        match data {
            Some(data) => super::serialize(data, serializer),
            None => serializer.serialize_none(),
        }
    }

    pub(in crate::protocol) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Option<Bytes>, D::Error> {
        Option::<Cow<'de, str>>::deserialize(deserializer)?
            .map(|text| decode(&text))
            .transpose()
    }
}
