//! Free-form values, which protobuf carries as JSON text.

use crate::wire::decode::DecodeErrorKind;
use crate::wire::incoming::JsonTape;
use crate::wire::value::{self, Budget};
use serde_json::{Map, Value};

pub(super) fn read(text: &str) -> Result<Value, DecodeErrorKind> {
    read_within(text, &mut Budget::new())
}

/// Reads one of several values that share a budget.
pub(super) fn read_within(text: &str, budget: &mut Budget) -> Result<Value, DecodeErrorKind> {
    let mut bytes = text.as_bytes().to_vec();
    let document = JsonTape::default().open(&mut bytes)?;
    value::read(&mut document.reader(), budget)
}

pub(super) fn read_map(text: &str) -> Result<Map<String, Value>, DecodeErrorKind> {
    let mut bytes = text.as_bytes().to_vec();
    let document = JsonTape::default().open(&mut bytes)?;
    value::read_map(&mut document.reader())
}
