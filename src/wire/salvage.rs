//! What can still be learnt from a payload that does not decode.

use super::decode::{DecodeError, DecodeErrorKind, Kind, Source};
use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, Visitor};
use std::fmt;

/// Where a correlation id may stand: at the top, or below these keys.
const PATHS: &[&str] = &["metadata", "audit", "custom"];

/// A message that does not decode.
#[derive(Debug, PartialEq)]
pub(crate) struct Undecodable {
    pub(crate) error: DecodeError,
    /// Its correlation id, if that stands before the damage.
    pub(crate) correlation_id: Option<String>,
}

impl Undecodable {
    /// A message whose values can be read, though they are not what they should be.
    pub(super) fn in_values<'a>(error: DecodeError, mut source: impl Source<'a>) -> Self {
        let mut found = None;
        // The walk ends at the damage; what was found until then counts.
        let _ = walk(&mut source, &mut found, MAX_WALK_DEPTH);
        Self {
            error,
            correlation_id: found.filter(|id| !id.is_empty()).map(str::to_owned),
        }
    }

    /// A message that is not JSON.
    pub(super) fn in_json(error: DecodeError, payload: &[u8]) -> Self {
        let mut found = None;
        let mut json = serde_json::Deserializer::from_slice(payload);
        let _ = IdBelow(&mut found).deserialize(&mut json);
        Self {
            error,
            correlation_id: found.filter(|id| !id.is_empty()),
        }
    }

    /// A message of which nothing can be learnt.
    pub(super) fn entirely(error: DecodeError) -> Self {
        Self {
            error,
            correlation_id: None,
        }
    }
}

/// The maps on [`PATHS`] are at most this deep below the top.
const MAX_WALK_DEPTH: usize = 3;

fn walk<'a, S: Source<'a>>(
    source: &mut S,
    found: &mut Option<&'a str>,
    depth: usize,
) -> Result<(), DecodeErrorKind> {
    if source.peek()? == Kind::Array {
        // Positional structs begin with their correlation id, where they have one.
        source.array()?;
        if source.peek()? == Kind::Str {
            found.get_or_insert(source.str()?);
        }
        return Ok(());
    }
    for _ in 0..source.map()? {
        match source.str()? {
            "correlation_id" if source.peek()? == Kind::Str => {
                found.get_or_insert(source.str()?);
            }
            key if PATHS.contains(&key) && depth > 0 => {
                let mut below = source.clone();
                let skipped = source.skip();
                // The id may stand in front of the damage.
                let _ = walk(&mut below, found, depth - 1);
                skipped?;
            }
            _ => source.skip()?,
        }
    }
    Ok(())
}

/// Looks for a correlation id in a JSON value, remembering it even if an error follows.
struct IdBelow<'f>(&'f mut Option<String>);

impl<'de> DeserializeSeed<'de> for IdBelow<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, json: D) -> Result<(), D::Error> {
        json.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for IdBelow<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a message")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let mut candidate = None;
        loop {
            // An id counts only if JSON goes on correctly behind it.
            let key = map.next_key::<String>()?;
            if let Some(id) = candidate.take() {
                self.0.get_or_insert(id);
            }
            match key.as_deref() {
                None => return Ok(()),
                Some("correlation_id") => candidate = Some(map.next_value::<String>()?),
                Some(key) if PATHS.contains(&key) => map.next_value_seed(IdBelow(&mut *self.0))?,
                Some(_) => drop(map.next_value::<IgnoredAny>()?),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::{JsonTape, msgpack};
    use bytes::Bytes;

    const ERROR: DecodeError = DecodeError {
        message: "test",
        kind: DecodeErrorKind::Syntax,
    };

    fn json(text: &str) -> Option<String> {
        Undecodable::in_json(ERROR, text.as_bytes()).correlation_id
    }

    fn parsed_json(text: &str) -> Option<String> {
        let mut text = text.as_bytes().to_vec();
        let mut tape = JsonTape::default();
        let document = tape.open(&mut text).unwrap();
        Undecodable::in_values(ERROR, document.reader()).correlation_id
    }

    fn in_msgpack(payload: &Bytes) -> Option<String> {
        Undecodable::in_values(ERROR, msgpack::Reader::new(payload)).correlation_id
    }

    fn msgpack(value: &serde_json::Value) -> Bytes {
        rmp_serde::to_vec_named(value).unwrap().into()
    }

    #[test]
    fn ids_are_found_where_messages_have_them() {
        assert_eq!(json(r#"{"correlation_id":"a"}"#).as_deref(), Some("a"));
        assert_eq!(
            json(r#"{"x":[1],"metadata":{"y":2,"correlation_id":"a"}}"#).as_deref(),
            Some("a")
        );
        let answer =
            serde_json::json!({"decision": 7, "audit": {"custom": {"correlation_id": "a"}}});
        assert_eq!(json(&answer.to_string()).as_deref(), Some("a"));
        assert_eq!(in_msgpack(&msgpack(&answer)).as_deref(), Some("a"));
    }

    #[test]
    fn escapes_in_an_id_are_resolved_once() {
        let id = "a\",\"correlation_id\":\"b";
        let text = serde_json::json!({"correlation_id": id, "status": "x"}).to_string();
        assert_eq!(parsed_json(&text).as_deref(), Some(id));
        assert_eq!(json(&text).as_deref(), Some(id));
    }

    #[test]
    fn ids_before_the_damage_are_found() {
        assert_eq!(
            json(r#"{"correlation_id":"a","data":"#).as_deref(),
            Some("a")
        );
        assert_eq!(
            json(r#"{"metadata":{"correlation_id":"a","x":"#).as_deref(),
            Some("a")
        );
        let whole = msgpack(&serde_json::json!({"correlation_id": "a", "data": "xxxxxxxxxxx"}));
        let cut = whole.slice(..whole.len() - 3);
        assert_eq!(in_msgpack(&cut).as_deref(), Some("a"));
        let nested =
            msgpack(&serde_json::json!({"metadata": {"correlation_id": "a", "x": "xxxx"}}));
        let cut = nested.slice(..nested.len() - 3);
        assert_eq!(in_msgpack(&cut).as_deref(), Some("a"));
    }

    #[test]
    fn no_id_is_made_up() {
        for text in [
            "",
            "{",
            "[]",
            "null",
            r#"{"correlation_id":7}"#,
            r#"{"correlation_id":"a"b"}"#,
        ] {
            assert_eq!(json(text), None, "{text}");
        }
        for bytes in [&[][..], &[0xc1], &[0x80], &[0x91], &[0x81, 0xa1, b'x']] {
            let payload = Bytes::copy_from_slice(bytes);
            assert_eq!(in_msgpack(&payload), None);
        }
    }
}
