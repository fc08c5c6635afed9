//! Appends values to a buffer.

use super::reader::ONE_BYTE;
use super::value::Value;

/// Appends values to a buffer.
#[derive(Debug)]
pub struct Writer<'b>(pub &'b mut Vec<u8>);

impl Writer<'_> {
    /// Appends a number in as few bytes as possible.
    pub fn varint(&mut self, number: u64) {
        if number < ONE_BYTE.into() {
            return self.0.push(low_byte(number));
        }
        self.0.push(ONE_BYTE | low_byte(number & 15));
        let mut rest = (number - u64::from(ONE_BYTE)) >> 4;
        while rest >= 128 {
            self.0.push(0x80 | low_byte(rest & 127));
            rest = (rest - 128) >> 7;
        }
        self.0.push(low_byte(rest));
    }

    /// Appends a string without a type.
    pub fn string(&mut self, text: impl AsRef<[u8]>) {
        let text = text.as_ref();
        self.varint(text.len() as u64);
        self.0.extend_from_slice(text);
    }

    /// Appends a typed value.
    pub fn value(&mut self, value: Value<'_>) {
        match value {
            Value::Null => self.0.push(0x00),
            Value::Bool(value) => self.0.push(if value { 0x11 } else { 0x01 }),
            Value::Int32(number) => self.number(2, i64::from(number).cast_unsigned()),
            Value::Uint32(number) => self.number(3, number.into()),
            Value::Int64(number) => self.number(4, number.cast_unsigned()),
            Value::Uint64(number) => self.number(5, number),
            Value::Ipv4(address) => {
                self.0.push(0x06);
                self.0.extend_from_slice(&address.octets());
            }
            Value::Ipv6(address) => {
                self.0.push(0x07);
                self.0.extend_from_slice(&address.octets());
            }
            Value::String(text) => {
                self.0.push(0x08);
                self.string(text);
            }
            Value::Binary(bytes) => {
                self.0.push(0x09);
                self.string(bytes);
            }
        }
    }

    fn number(&mut self, tag: u8, number: u64) {
        self.0.push(tag);
        self.varint(number);
    }

    /// Appends a name and its value.
    pub fn pair<'v>(&mut self, name: &str, value: impl Into<Value<'v>>) {
        self.string(name);
        self.value(value.into());
    }
}

const fn low_byte(number: u64) -> u8 {
    number.to_le_bytes()[0]
}
