//! Free-form values, which the protobuf messages carry as JSON text.

use crate::wire::JsonParser;
use crate::wire::decode::Decoded;
use crate::wire::value::{self, Budget};
use serde_json::{Map, Value};

/// Reads a value.
pub(super) fn read(text: &str) -> Decoded<Value> {
    read_within(text, &mut Budget::new())
}

/// Reads one of several values of a message, which share a budget for their number.
pub(super) fn read_within(text: &str, budget: &mut Budget) -> Decoded<Value> {
    let mut bytes = text.as_bytes().to_vec();
    let document = JsonParser::default().parse(&mut bytes)?;
    value::read(&mut document.reader(), budget)
}

/// Reads an object.
pub(super) fn read_map(text: &str) -> Decoded<Map<String, Value>> {
    let mut bytes = text.as_bytes().to_vec();
    let document = JsonParser::default().parse(&mut bytes)?;
    value::read_map(&mut document.reader())
}
