//! Recovery of the correlation id from a payload that cannot be decoded.

use super::decode::{DecodeError, Decoded, Kind, Source};
use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, Visitor};
use std::fmt;

/// Keys of maps that may contain a correlation id. It may also be at the top level.
const PARENTS: &[&str] = &["metadata", "audit", "custom"];

/// Depth of the search. The maps named by [`PARENTS`] are at most this deep below the top level.
const MAX_SEARCH_DEPTH: usize = 3;

/// A message that cannot be decoded.
#[derive(Debug, PartialEq)]
#[non_exhaustive]
pub struct Undecodable {
    /// The error.
    pub error: DecodeError,
    /// Correlation id of the message, if it was found before the invalid part.
    pub correlation_id: Option<String>,
}

impl Undecodable {
    /// Searches values that can be read, although they are not a valid message.
    pub(super) fn from_values<'a>(error: DecodeError, mut source: impl Source<'a>) -> Self {
        let mut found = None;
        // The search ends at the first invalid value. An id found before it is used.
        let _ = find_id(&mut source, &mut found, MAX_SEARCH_DEPTH);
        Self {
            error,
            correlation_id: found.filter(|id| !id.is_empty()).map(str::to_owned),
        }
    }

    /// Searches text that is not valid JSON.
    pub(super) fn from_json_text(error: DecodeError, payload: &[u8]) -> Self {
        let mut found = None;
        let mut json = serde_json::Deserializer::from_slice(payload);
        let _ = FindId(&mut found).deserialize(&mut json);
        Self {
            error,
            correlation_id: found.filter(|id| !id.is_empty()),
        }
    }
}

fn find_id<'a, S: Source<'a>>(
    source: &mut S,
    found: &mut Option<&'a str>,
    depth: usize,
) -> Decoded<()> {
    if source.peek()? == Kind::Array {
        // Structs written as arrays begin with their correlation id if they have one.
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
            key if PARENTS.contains(&key) && depth > 0 => {
                let mut nested = source.clone();
                let skipped = source.skip();
                // Search even if the map is invalid, since the id may precede the invalid part.
                let _ = find_id(&mut nested, found, depth - 1);
                skipped?;
            }
            _ => source.skip()?,
        }
    }
    Ok(())
}

/// Searches a JSON value for a correlation id, and keeps the id even if an error follows.
struct FindId<'f>(&'f mut Option<String>);

impl<'de> DeserializeSeed<'de> for FindId<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, json: D) -> Result<(), D::Error> {
        json.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for FindId<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a message")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let mut candidate = None;
        loop {
            // An id is accepted only if valid JSON follows it.
            let key = map.next_key::<String>()?;
            if let Some(id) = candidate.take() {
                self.0.get_or_insert(id);
            }
            match key.as_deref() {
                None => return Ok(()),
                Some("correlation_id") => candidate = Some(map.next_value::<String>()?),
                Some(key) if PARENTS.contains(&key) => map.next_value_seed(FindId(&mut *self.0))?,
                Some(_) => drop(map.next_value::<IgnoredAny>()?),
            }
        }
    }
}
