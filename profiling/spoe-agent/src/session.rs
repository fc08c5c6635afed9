//! One connection of HAProxy, without its socket.

use crate::wire::{Reader, Value, put_number, put_string, put_text, put_varint};
use bytes::{Buf, BytesMut};

/// Size of the largest frame that is read, in bytes.
const MAX_FRAME: usize = 1 << 20;

const HAPROXY_HELLO: u8 = 1;
const HAPROXY_DISCONNECT: u8 = 2;
const NOTIFY: u8 = 3;
const AGENT_HELLO: u8 = 101;
const AGENT_DISCONNECT: u8 = 102;
const ACK: u8 = 103;

/// Marks the last piece of a payload. The agent does not offer to read payloads in pieces.
const FIN: u32 = 1;

/// Bytes that are no frame of SPOP, or one that HAProxy does not send to this agent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("invalid frame")]
pub struct InvalidFrame;

/// State of a connection after its frames were answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// More frames may follow.
    Open,
    /// HAProxy said that it leaves.
    Closed,
}

/// Removes all whole frames from `input`, and appends their answers to `answers`.
///
/// The answer to a message sets the variable `action` of the transaction: to `allow` if the message
/// has all arguments that the benchmark sends, to `deny` otherwise.
///
/// # Errors
///
/// Returns an error if the input is invalid. The connection is of no use afterwards.
pub fn answer_all(input: &mut BytesMut, answers: &mut Vec<u8>) -> Result<State, InvalidFrame> {
    while let Some((length, rest)) = input.split_first_chunk() {
        let length = u32::from_be_bytes(*length) as usize;
        if length > MAX_FRAME {
            return Err(InvalidFrame);
        }
        let Some(frame) = rest.get(..length) else {
            break;
        };
        let state = answer(frame, answers)?;
        input.advance(4 + length);
        if state == State::Closed {
            return Ok(state);
        }
    }
    Ok(State::Open)
}

fn answer(frame: &[u8], answers: &mut Vec<u8>) -> Result<State, InvalidFrame> {
    let mut reader = Reader::new(frame);
    let kind = reader.byte()?;
    let flags = reader.take(4)?;
    if flags != FIN.to_be_bytes() {
        return Err(InvalidFrame);
    }
    let (stream, number) = (reader.varint()?, reader.varint()?);
    match kind {
        HAPROXY_HELLO => {
            let max_frame_size = read_hello(&mut reader)?;
            put_frame(answers, AGENT_HELLO, (0, 0), |out| {
                put_string(out, "version");
                put_text(out, "2.0");
                put_string(out, "max-frame-size");
                put_number(out, max_frame_size);
                put_string(out, "capabilities");
                put_text(out, "pipelining");
            });
        }
        HAPROXY_DISCONNECT => {
            put_frame(answers, AGENT_DISCONNECT, (0, 0), |out| {
                put_string(out, "status-code");
                put_number(out, 0);
                put_string(out, "message");
                put_text(out, "bye");
            });
            return Ok(State::Closed);
        }
        NOTIFY => {
            let action = match read_messages(&mut reader)? {
                Arguments::ALL => "allow",
                _ => "deny",
            };
            put_frame(answers, ACK, (stream, number), |out| {
                out.extend_from_slice(&SET_VAR);
                put_string(out, "action");
                put_text(out, action);
            });
        }
        _ => return Err(InvalidFrame),
    }
    Ok(State::Open)
}

/// Sets a variable of the transaction: the action, its number of arguments, and the scope.
const SET_VAR: [u8; 3] = [1, 3, 2];

/// Returns the largest frame that HAProxy reads.
fn read_hello(reader: &mut Reader<'_>) -> Result<u32, InvalidFrame> {
    let mut max_frame_size = None;
    while !reader.is_empty() {
        if let (b"max-frame-size", Value::Number(size)) = (reader.string()?, reader.value()?) {
            max_frame_size = u32::try_from(size).ok();
        }
    }
    max_frame_size.ok_or(InvalidFrame)
}

/// The arguments that a request came with.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Arguments {
    has_method: bool,
    has_path: bool,
    has_headers: bool,
    has_source: bool,
}

impl Arguments {
    const ALL: Self = Self {
        has_method: true,
        has_path: true,
        has_headers: true,
        has_source: true,
    };
}

fn read_messages(reader: &mut Reader<'_>) -> Result<Arguments, InvalidFrame> {
    let mut found = Arguments::default();
    while !reader.is_empty() {
        let _name = reader.string()?;
        for _ in 0..reader.byte()? {
            match (reader.string()?, reader.value()?) {
                (b"method", Value::Bytes(method)) => found.has_method = !method.is_empty(),
                (b"path", Value::Bytes(path)) => found.has_path = !path.is_empty(),
                (b"headers", Value::Bytes(list)) => found.has_headers = count_headers(list)? > 0,
                (b"src", Value::Address(_)) => found.has_source = true,
                _ => {}
            }
        }
    }
    Ok(found)
}

/// Reads a list of headers up to its end, which is an empty name with an empty value.
fn count_headers(list: &[u8]) -> Result<usize, InvalidFrame> {
    let mut reader = Reader::new(list);
    let mut count = 0;
    loop {
        let (name, value) = (reader.string()?, reader.string()?);
        if name.is_empty() && value.is_empty() {
            return Ok(count);
        }
        count += 1;
    }
}

/// Appends a frame whose payload is what `put_payload` appends.
fn put_frame(
    out: &mut Vec<u8>,
    kind: u8,
    (stream, number): (u64, u64),
    put_payload: impl FnOnce(&mut Vec<u8>),
) {
    let begin = out.len();
    out.extend_from_slice(&[0; 4]);
    out.push(kind);
    out.extend_from_slice(&FIN.to_be_bytes());
    put_varint(out, stream);
    put_varint(out, number);
    put_payload(out);
    // A frame of this agent has fewer than a hundred bytes.
    let length = (out.len() - begin - 4) as u32;
    out[begin..begin + 4].copy_from_slice(&length.to_be_bytes());
}
