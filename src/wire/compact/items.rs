//! The items of an event's array, in order.

use super::numbers::number;
use crate::wire::decode::{DecodeErrorKind, Decoded, Source};
use crate::wire::encode::Sink;
use crate::wire::events::EventTarget;
use crate::wire::msgpack::{Reader, Writer};
use std::time::Duration;

/// Number of items with which every event begins.
const HEAD: usize = 2;

/// Writes the beginning of an event with this many further items.
#[inline]
pub(in crate::wire) fn begin_event(
    target: &EventTarget<'_>,
    items: usize,
    writer: &mut Writer<'_>,
) {
    writer.begin_array(HEAD + items);
    writer.str(target.correlation_id);
    match target.time_left {
        Some(time_left) => writer.uint(milliseconds(time_left)),
        None => writer.null(),
    }
}

/// Rounds up, so that an agent never gives up a call before its proxy does.
fn milliseconds(duration: Duration) -> u64 {
    let part = duration.subsec_nanos().div_ceil(1_000_000);
    let whole = duration.as_secs().saturating_mul(1000);
    whole.saturating_add(u64::from(part))
}

/// The unread items of an array.
#[derive(Debug)]
pub(super) struct Items<'r, 'a> {
    left: usize,
    source: &'r mut Reader<'a>,
}

impl<'r, 'a> Items<'r, 'a> {
    #[inline]
    pub(super) fn begin(source: &'r mut Reader<'a>) -> Decoded<Self> {
        let left = source.array()?;
        Ok(Self { left, source })
    }

    /// Returns the source of the next item, which is required.
    #[inline]
    pub(super) fn next(&mut self, name: &'static str) -> Decoded<&mut Reader<'a>> {
        self.optional().ok_or(DecodeErrorKind::Missing(name))
    }

    /// Returns the source of the next item, if there is one.
    #[inline]
    pub(super) fn optional(&mut self) -> Option<&mut Reader<'a>> {
        self.left = self.left.checked_sub(1)?;
        Some(self.source)
    }

    /// Reads the correlation id and the time that is left, with which every event begins.
    #[inline]
    pub(super) fn head(&mut self, time_left: &mut Option<Duration>) -> Decoded<&'a str> {
        let correlation_id = self.next("correlation_id")?.str()?;
        let source = self.next("time_left")?;
        if !source.null()? {
            let ms = number(source)?.ok_or(DecodeErrorKind::WrongType)?;
            *time_left = Some(Duration::from_millis(ms));
        }
        Ok(correlation_id)
    }

    /// Skips the items that this version does not know.
    #[inline]
    pub(super) fn end(&mut self) -> Decoded<()> {
        for _ in 0..self.left {
            self.source.skip()?;
        }
        Ok(())
    }

    /// Like [`end`](Self::end), and checks that the message ends with the array.
    #[inline]
    pub(super) fn end_message(mut self) -> Decoded<()> {
        self.end()?;
        self.source.expect_end()
    }
}

/// Writes a field of an event, unless it is the one that comes last: the body.
macro_rules! write_unless_last {
    (data, $value:expr, $writer:expr) => {};
    (client_ip, $value:expr, $writer:expr) => {
        $crate::wire::compact::write_address($value, $writer)
    };
    (opcode, $value:expr, $writer:expr) => {
        $crate::wire::compact::write_opcode(*$value, $writer)
    };
    (inspection_type, $value:expr, $writer:expr) => {
        $crate::wire::compact::write_inspection_type(*$value, $writer)
    };
    ($field:ident, $value:expr, $writer:expr) => {
        $crate::wire::fields::WriteField::write($value, $writer)
    };
}

/// Writes the body of an event, which comes last, so that it need not be copied.
macro_rules! write_last {
    (data, $value:expr, $writer:expr) => {
        $crate::wire::fields::WriteField::write($value, $writer)
    };
    ($field:ident, $value:expr, $writer:expr) => {};
}

pub(in crate::wire) use {write_last, write_unless_last};
