//! Free-form values, which the protobuf messages carry as JSON text.

use crate::wire::JsonParser;
use crate::wire::decode::DecodeErrorKind;
use crate::wire::value::{self, Budget};
use serde_json::{Map, Value};

/// Reads a value.
pub(super) fn read(text: &str) -> Result<Value, DecodeErrorKind> {
    read_within(text, &mut Budget::new())
}

/// Reads one of several values of a message, which share a budget for their number.
pub(super) fn read_within(text: &str, budget: &mut Budget) -> Result<Value, DecodeErrorKind> {
    let mut bytes = text.as_bytes().to_vec();
    let document = JsonParser::default().parse(&mut bytes)?;
    value::read(&mut document.reader(), budget)
}

/// Reads an object.
pub(super) fn read_map(text: &str) -> Result<Map<String, Value>, DecodeErrorKind> {
    let mut bytes = text.as_bytes().to_vec();
    let document = JsonParser::default().parse(&mut bytes)?;
    value::read_map(&mut document.reader())
}
