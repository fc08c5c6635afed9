//! Values of a file that are checked while they are read: only then does an error have their line.

use serde::de::{Deserializer, Error, SeqAccess, Visitor};
use std::fmt;

/// Reads a text and checks it.
pub(super) fn text<'de, D: Deserializer<'de>, T>(
    deserializer: D,
    check: impl FnOnce(&str) -> Result<T, String>,
) -> Result<T, D::Error> {
    deserializer.deserialize_str(Text(check))
}

/// Reads a list of texts and checks it.
pub(super) fn texts<'de, D: Deserializer<'de>, T>(
    deserializer: D,
    check: impl FnOnce(&[&str]) -> Result<T, String>,
) -> Result<T, D::Error> {
    deserializer.deserialize_seq(Texts(check))
}

struct Text<C>(C);

impl<T, C: FnOnce(&str) -> Result<T, String>> Visitor<'_> for Text<C> {
    type Value = T;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a string")
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<T, E> {
        self.0(text).map_err(E::custom)
    }
}

struct Texts<C>(C);

impl<'de, T, C: FnOnce(&[&str]) -> Result<T, String>> Visitor<'de> for Texts<C> {
    type Value = T;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a list of strings")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<T, A::Error> {
        let mut texts: Vec<String> = Vec::new();
        while let Some(text) = list.next_element()? {
            texts.push(text);
        }
        let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
        self.0(&texts).map_err(A::Error::custom)
    }
}
