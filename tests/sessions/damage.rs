//! Applies the edits of a script to a recorded session.

use crate::input::{Edit, Script};
use crate::units::{Form, Unit};
use std::time::Duration;

/// Longest stream in bytes. Longer ones take time and find no more.
const MAX_STREAM: usize = 512 * 1024;

/// Largest number of units, so that repeated ones cannot be repeated again and again.
const MAX_UNITS: usize = 2_000;

/// Integers at their limits, in MessagePack, protobuf and big endian.
const EXTREMES: [&[u8]; 10] = [
    b"\xcf\xff\xff\xff\xff\xff\xff\xff\xff",
    b"\xd3\x80\0\0\0\0\0\0\0",
    b"\xdd\xff\xff\xff\xff",
    b"\xdf\xff\xff\xff\xff",
    b"\xdb\xff\xff\xff\xff",
    b"\xc6\xff\xff\xff\xff",
    b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01",
    b"\xff\xff\xff\xff\x0f",
    b"\xcb\x7f\xf0\0\0\0\0\0\0",
    b"\0\0\0\0\0\0\0\0",
];

/// Numbers at their limits as text.
const NUMBERS: [&[u8]; 8] = [
    b"18446744073709551615",
    b"18446744073709551616",
    b"-9223372036854775809",
    b"1e309",
    b"-0.0",
    b"4294967296",
    b"-1",
    b"0",
];

/// Stream that a peer sends.
#[derive(Debug, Clone, Default)]
pub struct Plan {
    pub steps: Vec<Step>,
    /// `false` if every message was recorded, and each is sent once and in its order.
    pub is_damaged: bool,
}

/// Bytes that are sent at once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Step {
    /// Number of bytes that the other side sends first, if it does.
    pub after: usize,
    pub pause: Duration,
    pub bytes: Vec<u8>,
}

/// Applies edits to a session, in their order. `other` is a session that units may come from.
pub fn plan(session: &[Unit], other: &[Unit], script: &Script) -> Plan {
    let mut units = session.to_vec();
    let mut is_damaged = false;
    for edit in &script.edits {
        is_damaged |= apply_to_units(&mut units, other, edit);
    }
    let mut steps: Vec<Step> = units.iter().map(Step::of).collect();
    for edit in &script.edits {
        is_damaged |= apply_to_steps(&mut steps, &units, edit);
    }
    let mut total = 0;
    steps.retain(|step| {
        total += step.bytes.len();
        total <= MAX_STREAM
    });
    Plan { steps, is_damaged }
}

impl Plan {
    pub fn bytes(&self) -> impl Iterator<Item = u8> {
        self.steps
            .iter()
            .flat_map(|step| step.bytes.iter().copied())
    }
}

impl Step {
    fn of(unit: &Unit) -> Self {
        Self {
            after: unit.after,
            pause: Duration::ZERO,
            bytes: unit.wire(),
        }
    }
}

/// Applies an edit whose result has correct lengths. Returns whether it changed something.
fn apply_to_units(units: &mut Vec<Unit>, other: &[Unit], edit: &Edit) -> bool {
    if units.is_empty() {
        return false;
    }
    let index = usize::from(edit.unit) % units.len();
    let value = usize::from(edit.value);
    match edit.operation % 24 {
        0..=6 => return change_content(&mut units[index].bytes, edit),
        7 => drop(units.remove(index)),
        8 => repeat(units, index, 1 + value % 4),
        // A peer that floods.
        9 if edit.at.is_multiple_of(4) => repeat(units, index, value * 4),
        10 => {
            let unit = units.remove(index);
            units.insert(value % (units.len() + 1), unit);
        }
        11 if !other.is_empty() => units.insert(index, other[value % other.len()].clone()),
        12 => match &mut units[index].form {
            Form::Http2 { kind, .. } if edit.at.is_multiple_of(2) => *kind = edit.value % 12,
            Form::Http2 { flags, .. } if edit.at.is_multiple_of(3) => *flags = edit.value,
            Form::Http2 { stream, .. } | Form::Message { stream } => *stream = value as u32 % 6,
            Form::Frame | Form::Raw => {
                units[index].bytes[..1].fill(edit.value);
            }
        },
        13 => {
            let length = units[index].bytes.len();
            units[index]
                .bytes
                .truncate(usize::from(edit.at) % (length + 1));
        }
        _ => return false,
    }
    true
}

fn repeat(units: &mut Vec<Unit>, index: usize, times: usize) {
    let times = times.min(MAX_UNITS.saturating_sub(units.len()));
    let unit = units[index].clone();
    units.splice(index..index, std::iter::repeat_n(unit, times));
}

/// Changes bytes. Returns whether it changed something.
fn change_content(bytes: &mut Vec<u8>, edit: &Edit) -> bool {
    let before = bytes.clone();
    let at = usize::from(edit.at) % (bytes.len() + 1);
    let end = bytes.len().min(at + usize::from(edit.value));
    match edit.operation % 24 {
        0 => bytes[at..]
            .iter_mut()
            .take(1)
            .for_each(|byte| *byte = edit.value),
        1 => bytes[at..]
            .iter_mut()
            .take(1)
            .for_each(|byte| *byte ^= 1 << (edit.value % 8)),
        2 => bytes.insert(at, edit.value),
        3 => drop(bytes.drain(at..end)),
        4 => {
            let piece = bytes[at..end].to_vec();
            bytes.splice(at..at, piece);
        }
        5 => {
            let extreme = EXTREMES[usize::from(edit.value) % EXTREMES.len()];
            let replaced = at..bytes.len().min(at + 1);
            bytes.splice(replaced, extreme.iter().copied());
        }
        _ => replace_number(bytes, at, NUMBERS[usize::from(edit.value) % NUMBERS.len()]),
    }
    *bytes != before
}

/// Replaces the next number that is written as text.
fn replace_number(bytes: &mut Vec<u8>, at: usize, number: &[u8]) {
    let is_digit = |byte: &u8| byte.is_ascii_digit();
    let Some(start) = bytes[at..].iter().position(is_digit) else {
        return;
    };
    let start = at + start;
    let length = bytes[start..]
        .iter()
        .take_while(|byte| is_digit(byte))
        .count();
    bytes.splice(start..start + length, number.iter().copied());
}

/// Applies an edit of the bytes on the wire, or of the time. Returns whether it changed bytes.
fn apply_to_steps(steps: &mut Vec<Step>, units: &[Unit], edit: &Edit) -> bool {
    if steps.is_empty() {
        return false;
    }
    let index = usize::from(edit.unit) % steps.len();
    let step = &mut steps[index];
    let at = usize::from(edit.at) % (step.bytes.len() + 1);
    match edit.operation % 24 {
        14..=17 => {
            let edit = Edit {
                operation: edit.operation % 24 - 14,
                ..*edit
            };
            return change_content(&mut step.bytes, &edit);
        }
        18 => {
            return units
                .get(index)
                .is_some_and(|unit| change_length(step, unit, edit));
        }
        // The end of the stream, at any byte.
        19 => {
            step.bytes.truncate(at);
            steps.truncate(index + 1);
        }
        20 => step.pause = Duration::from_millis(u64::from(edit.value) * 3),
        21 | 22 => {
            let rest = step.bytes.split_off(at);
            let rest = Step {
                after: 0,
                pause: Duration::from_millis(u64::from(edit.value)),
                bytes: rest,
            };
            steps.insert(index + 1, rest);
        }
        // The answers come before the events, and the events before the handshake.
        23 => steps.iter_mut().for_each(|step| step.after = 0),
        _ => {}
    }
    false
}

fn change_length(step: &mut Step, unit: &Unit, edit: &Edit) -> bool {
    let lengths = unit.lengths();
    if lengths.is_empty() {
        return false;
    }
    let (at, count) = lengths[usize::from(edit.at) % lengths.len()];
    let Some(field) = step.bytes.get_mut(at..at + count) else {
        return false;
    };
    let last = count - 1;
    match edit.value % 5 {
        0 => field.fill(0),
        1 => field.fill(0xff),
        2 => field[last] = field[last].wrapping_add(edit.value),
        3 => field[last] = field[last].wrapping_sub(edit.value),
        _ => field[last - 1] = edit.value,
    }
    true
}
