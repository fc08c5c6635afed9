//! Minimal protobuf encoder and decoder, independent of the library's codec.

/// Encodes a number.
pub fn number(field: u32, number: u64) -> Vec<u8> {
    [varint(u64::from(field) << 3), varint(number)].concat()
}

/// Encodes bytes, text or a message.
pub fn bytes(field: u32, content: impl AsRef<[u8]>) -> Vec<u8> {
    let content = content.as_ref();
    let tag = varint(u64::from(field) << 3 | 2);
    [&tag, &varint(content.len() as u64), content].concat()
}

/// Encodes the stream id of an event, which its answer repeats.
pub fn stream_id(id: u64) -> Vec<u8> {
    [&varint(1000 << 3 | 1)[..], &id.to_le_bytes()].concat()
}

pub fn varint(mut number: u64) -> Vec<u8> {
    let mut out = Vec::new();
    while number >= 0x80 {
        out.push(number as u8 | 0x80);
        number >>= 7;
    }
    out.push(number as u8);
    out
}

/// Value of a field.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Value {
    Number(u64),
    Bytes(Vec<u8>),
}

/// Returns the first value of a field.
pub fn find(mut message: &[u8], wanted: u32) -> Option<Value> {
    while !message.is_empty() {
        let tag = take_varint(&mut message);
        let value = match tag & 7 {
            0 => Value::Number(take_varint(&mut message)),
            1 => Value::Number(u64::from_le_bytes(
                take(&mut message, 8).try_into().unwrap(),
            )),
            2 => {
                let len = take_varint(&mut message);
                Value::Bytes(take(&mut message, len as usize).to_vec())
            }
            5 => Value::Number(u64::from(u32::from_le_bytes(
                take(&mut message, 4).try_into().unwrap(),
            ))),
            other => panic!("wire type {other}"),
        };
        if tag >> 3 == u64::from(wanted) {
            return Some(value);
        }
    }
    None
}

/// Returns the message or bytes in a field.
pub fn content(message: &[u8], field: u32) -> Vec<u8> {
    match find(message, field) {
        Some(Value::Bytes(content)) => content,
        other => panic!("field {field} is {other:?}"),
    }
}

pub fn text(message: &[u8], field: u32) -> String {
    String::from_utf8(content(message, field)).unwrap()
}

fn take_varint(message: &mut &[u8]) -> u64 {
    let mut number = 0;
    for shift in (0..).step_by(7) {
        let byte = take(message, 1)[0];
        number |= u64::from(byte & 0x7f) << shift;
        if byte < 0x80 {
            break;
        }
    }
    number
}

fn take<'m>(message: &mut &'m [u8], len: usize) -> &'m [u8] {
    let (taken, rest) = message.split_at(len);
    *message = rest;
    taken
}

/// Encodes a handshake response that accepts, with an optional version of the extension.
pub fn accept_handshake(tollgate_version: Option<u64>) -> Vec<u8> {
    let capabilities = [bytes(2, "raw"), bytes(3, "Raw"), bytes(4, "0")].concat();
    let version = tollgate_version.map(|version| number(1000, version));
    let response = [
        number(1, 2),
        bytes(2, capabilities),
        number(3, 1),
        version.unwrap_or_default(),
    ];
    bytes(1, response.concat())
}

/// Encodes a handshake request as a proxy on `zentinel-agent-protocol` does.
pub fn offer_handshake() -> Vec<u8> {
    bytes(1, [bytes(1, [2]), bytes(2, "raw"), bytes(3, "0")].concat())
}

/// Encodes minimal request headers.
pub fn request(correlation_id: &str, uri: &str) -> Vec<u8> {
    let metadata = bytes(1, bytes(1, correlation_id));
    bytes(2, [metadata, bytes(2, "GET"), bytes(3, uri)].concat())
}

pub fn allowing(correlation_id: &str) -> Vec<u8> {
    bytes(2, [bytes(1, correlation_id), bytes(2, [])].concat())
}

/// Encodes a block. Its status identifies the answer.
pub fn blocking(correlation_id: &str, status: u64) -> Vec<u8> {
    let block = bytes(3, number(1, status));
    bytes(2, [bytes(1, correlation_id), block].concat())
}

/// Returns the correlation id of request headers.
pub fn id_of_request(envelope: &[u8]) -> String {
    text(&content(&content(envelope, 2), 1), 1)
}
