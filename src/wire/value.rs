//! Free-form values, such as those of `audit.custom` and of settings.

use super::decode::{DecodeErrorKind, Decoded, Kind, Source, is_new};
use super::encode::Sink;
use serde_json::{Map, Number, Value};

/// Maximum nesting depth of free-form values; the same as the default limit of serde_json.
pub const MAX_DEPTH: usize = 127;

/// Maximum number of free-form values in a message.
///
/// A decoded value takes about a hundred bytes, however short it was on the wire, so a frame full
/// of values would take gigabytes.
const MAX_VALUES: usize = 100_000;

/// Remaining number of free-form values that a message may hold.
pub(super) struct Budget {
    values: usize,
}

impl Budget {
    pub(super) const fn new() -> Self {
        Self { values: MAX_VALUES }
    }

    fn take(&mut self) -> Decoded<()> {
        self.values = self.values.checked_sub(1).ok_or(DecodeErrorKind::TooMany)?;
        Ok(())
    }
}

/// Reads a value of any kind. Bytes become base64 text, as in JSON.
pub(super) fn read<'a, S: Source<'a>>(source: &mut S, budget: &mut Budget) -> Decoded<Value> {
    read_within(source, MAX_DEPTH, budget)
}

/// Reads a map. A key may be repeated if its values are equal.
pub(super) fn read_map<'a, S: Source<'a>>(source: &mut S) -> Decoded<Map<String, Value>> {
    read_map_within(source, MAX_DEPTH, &mut Budget::new())
}

fn read_within<'a, S: Source<'a>>(
    source: &mut S,
    depth: usize,
    budget: &mut Budget,
) -> Decoded<Value> {
    budget.take()?;
    Ok(match source.peek()? {
        Kind::Null => {
            source.skip()?;
            Value::Null
        }
        Kind::Bool => Value::Bool(source.bool()?),
        Kind::Integer => Value::Number(integer(source.integer()?)?),
        Kind::Float => Number::from_f64(source.float()?).map_or(Value::Null, Value::Number),
        Kind::Str => Value::String(source.str()?.to_owned()),
        Kind::Bytes => Value::String(base64_simd::STANDARD.encode_to_string(source.body()?)),
        Kind::Array => {
            let depth = deeper(depth)?;
            Value::Array(source.list(|source| read_within(source, depth, budget))?)
        }
        Kind::Map => Value::Object(read_map_within(source, depth, budget)?),
    })
}

fn read_map_within<'a, S: Source<'a>>(
    source: &mut S,
    depth: usize,
    budget: &mut Budget,
) -> Decoded<Map<String, Value>> {
    let depth = deeper(depth)?;
    let mut map = Map::new();
    source.pairs(|key, source| {
        let value = read_within(source, depth, budget)?;
        if is_new(map.get(key), &value)? {
            map.insert(key.to_owned(), value);
        }
        Ok(())
    })?;
    Ok(map)
}

/// Checks that [`read_map`] would accept a map.
pub(super) fn check_map(map: &Map<String, Value>) -> Decoded<()> {
    check_values(&mut map.values(), MAX_DEPTH, &mut Budget::new())
}

fn check_values(
    values: &mut dyn Iterator<Item = &Value>,
    depth: usize,
    budget: &mut Budget,
) -> Decoded<()> {
    let depth = deeper(depth)?;
    for value in values {
        budget.take()?;
        match value {
            Value::Array(items) => check_values(&mut items.iter(), depth, budget)?,
            Value::Object(map) => check_values(&mut map.values(), depth, budget)?,
            _ => {}
        }
    }
    Ok(())
}

fn deeper(depth: usize) -> Decoded<usize> {
    depth.checked_sub(1).ok_or(DecodeErrorKind::TooDeep)
}

fn integer(number: i128) -> Decoded<Number> {
    if let Ok(number) = u64::try_from(number) {
        return Ok(Number::from(number));
    }
    i64::try_from(number)
        .map(Number::from)
        .map_err(|_| DecodeErrorKind::OutOfRange)
}

/// Writes a value of any kind.
pub(super) fn write<S: Sink>(value: &Value, sink: &mut S) {
    match value {
        Value::Null => sink.null(),
        Value::Bool(flag) => sink.bool(*flag),
        Value::Number(number) => write_number(number, sink),
        Value::String(text) => sink.str(text),
        Value::Array(items) => {
            sink.begin_array(items.len());
            for item in items {
                write(item, sink);
            }
            sink.end_array();
        }
        Value::Object(map) => {
            sink.begin_map(map.len());
            for (key, value) in map {
                sink.key(key);
                write(value, sink);
            }
            sink.end_map();
        }
    }
}

fn write_number<S: Sink>(number: &Number, sink: &mut S) {
    if let Some(number) = number.as_u64() {
        sink.uint(number);
    } else if let Some(number) = number.as_i64() {
        sink.int(number);
    } else {
        sink.float(number.as_f64().unwrap_or_default());
    }
}
