//! Fields of events in protobuf: what a value of each type is, and macros that write and read the
//! fields of a message.

use super::reader::{Value, header};
use super::writer::Writer;
use crate::protocol::GuardrailInspectionType;
use crate::protocol::events::WebSocketOpcode;
use crate::wire::decode::{DecodeErrorKind, Decoded};
use bytes::Bytes;
use std::collections::HashMap;

/// A message that is read by the numbers of its fields.
pub(in crate::wire) trait ReadMessage<'a>: Sized {
    /// Reads a message, of which bodies are slices of `envelope`.
    fn read(message: &'a [u8], envelope: &Bytes) -> Decoded<Self>;
}

/// A value that can be written.
pub(in crate::wire) trait WriteNumbered {
    /// Set for bodies. They come last, so that they need not be copied.
    const IS_BODY: bool = false;

    /// Writes the field, unless it has the default value of its type.
    fn write(&self, field: u32, writer: &mut Writer<'_>);

    /// Writes the field, whatever value it has.
    fn write_present(&self, field: u32, writer: &mut Writer<'_>) {
        self.write(field, writer);
    }
}

/// A value that can be read.
pub(in crate::wire) trait ReadNumbered<'a>: Sized {
    /// Error of a message without the field, if it must not be absent.
    const REQUIRED: Option<DecodeErrorKind> = None;

    /// Returns the value of an absent field.
    fn absent() -> Self;

    /// Reads a field. Of several the last one counts, unless the field is a collection.
    ///
    /// Inlined, so that reading a message is one loop.
    fn read(&mut self, value: Value<'a>, envelope: &Bytes) -> Decoded<()>;
}

/// Writes fields by their numbers. Fields without presence are omitted if they have the default
/// value of their type. With another default, which follows `or`, they are always written.
macro_rules! write_message {
    ($writer:expr; $($value:expr => $number:literal $(or $absent:expr)?),* $(,)?) => {{
        let writer = &mut *$writer;
        $($crate::wire::protobuf::numbered::write_unless_body(
            $value,
            $crate::wire::protobuf::numbered::writing!($($absent)?),
            $number,
            writer,
        );)*
        $($crate::wire::protobuf::numbered::write_body($value, $number, writer);)*
    }};
}

/// Selects the method that writes a field.
macro_rules! writing {
    () => {
        $crate::wire::protobuf::numbered::WriteNumbered::write
    };
    ($absent:expr) => {
        $crate::wire::protobuf::numbered::WriteNumbered::write_present
    };
}

/// Reads a struct, or a variant of an enum, by the numbers of its fields. An absent field has the
/// value after `or`, or that of its type. At most one field is [required](ReadNumbered::REQUIRED).
macro_rules! read_message {
    ($message:expr, $envelope:expr => $kind:ident {
        $($field:ident = $number:literal $(or $absent:expr)?),* $(,)?
    }) => {{
        use $crate::wire::protobuf::numbered;
        // One struct rather than a variable for each field, so that the closure is small.
        let mut message = $kind { $($field: numbered::absent!($($absent)?)),* };
        let mut missing = None $(.or(numbered::required(&message.$field)))*;
        $crate::wire::protobuf::Reader::new($message).each(|number, value| match number {
            $($number => numbered::read_field(&mut message.$field, &mut missing, value, $envelope),)*
            _ => Ok(()),
        })?;
        match missing {
            None => Ok(message),
            Some(kind) => Err(kind),
        }
    }};
    ($message:expr, $envelope:expr => $kind:ident :: $variant:ident {
        $($field:ident = $number:literal),* $(,)?
    }) => {{
        use $crate::wire::protobuf::numbered::ReadNumbered;
        $(let mut $field = ReadNumbered::absent();)*
        $crate::wire::protobuf::Reader::new($message).each(|number, value| match number {
            $($number => ReadNumbered::read(&mut $field, value, $envelope),)*
            _ => Ok(()),
        })?;
        Ok($kind::$variant { $($field),* })
    }};
}

macro_rules! absent {
    () => {
        $crate::wire::protobuf::numbered::ReadNumbered::absent()
    };
    ($absent:expr) => {
        $absent
    };
}

#[inline(always)]
pub(in crate::wire) fn required<'a, T: ReadNumbered<'a>>(_: &T) -> Option<DecodeErrorKind> {
    T::REQUIRED
}

#[inline(always)]
pub(in crate::wire) fn read_field<'a, T: ReadNumbered<'a>>(
    field: &mut T,
    missing: &mut Option<DecodeErrorKind>,
    value: Value<'a>,
    envelope: &Bytes,
) -> Decoded<()> {
    if T::REQUIRED.is_some() {
        *missing = None;
    }
    field.read(value, envelope)
}

pub(in crate::wire) use {absent, read_message, write_message, writing};

#[inline(always)]
pub(in crate::wire) fn write_unless_body<'b, T: WriteNumbered>(
    value: &T,
    write: fn(&T, u32, &mut Writer<'b>),
    field: u32,
    writer: &mut Writer<'b>,
) {
    if !T::IS_BODY {
        write(value, field, writer);
    }
}

#[inline(always)]
pub(in crate::wire) fn write_body<T: WriteNumbered>(
    value: &T,
    field: u32,
    writer: &mut Writer<'_>,
) {
    if T::IS_BODY {
        value.write(field, writer);
    }
}

/// Implements writing of a type by methods of the writer. The second writes any value.
macro_rules! written {
    ($(
        $kind:ty: |$value:ident, $field:ident, $writer:ident| $write:expr $(, $present:expr)?;
    )*) => {$(
        impl WriteNumbered for $kind {
            #[inline]
            fn write(&self, $field: u32, $writer: &mut Writer<'_>) {
                let $value = self;
                $write;
            }

            $(#[inline]
            fn write_present(&self, $field: u32, $writer: &mut Writer<'_>) {
                let $value = self;
                $present;
            })?
        }
    )*};
}

written! {
    u16: |n, field, writer| writer.uint(field, u64::from(*n)), writer.some_uint(field, u64::from(*n));
    u32: |n, field, writer| writer.uint(field, u64::from(*n)), writer.some_uint(field, u64::from(*n));
    u64: |n, field, writer| writer.uint(field, *n), writer.some_uint(field, *n);
    usize: |n, field, writer| writer.uint(field, *n as u64), writer.some_uint(field, *n as u64);
    bool: |flag, field, writer| writer.bool(field, *flag), writer.some_bool(field, *flag);
    Option<&str>: |text, field, writer| writer.optional_str(field, *text);
    Option<String>: |text, field, writer| writer.optional_str(field, text.as_deref());
    Option<usize>: |size, field, writer| if let Some(size) = size {
        writer.some_uint(field, *size as u64);
    };
    Option<f32>: |number, field, writer| if let Some(number) = number {
        writer.some_float(field, *number);
    };
    Option<HashMap<String, String>>: |map, field, writer| if let Some(map) = map {
        map.write(field, writer);
    };
    Vec<&str>: |items, field, writer| items.iter().for_each(|item| writer.some_str(field, item));
    Vec<String>: |items, field, writer| items.iter().for_each(|item| writer.some_str(field, item));
    Vec<(&str, &str)>: |pairs, field, writer| writer.str_pairs(field, pairs.iter().copied());
    HashMap<String, String>: |map, field, writer| {
        writer.str_pairs(field, map.iter().map(|(key, value)| (key.as_str(), value.as_str())));
    };
    &str: |text, field, writer| writer.str(field, text);
    String: |text, field, writer| writer.str(field, text);
}

impl WriteNumbered for Bytes {
    const IS_BODY: bool = true;

    fn write(&self, field: u32, writer: &mut Writer<'_>) {
        writer.last_bytes(field, self);
    }
}

impl WriteNumbered for WebSocketOpcode {
    fn write(&self, field: u32, writer: &mut Writer<'_>) {
        let opcode = OPCODES.iter().find(|(_, opcode)| opcode == self);
        writer.uint(field, opcode.map_or(0, |(number, _)| *number));
    }
}

/// Numbers of `WebSocketFrameEvent.FrameType`.
const OPCODES: [(u64, WebSocketOpcode); 6] = [
    (1, WebSocketOpcode::Text),
    (2, WebSocketOpcode::Binary),
    (3, WebSocketOpcode::Ping),
    (4, WebSocketOpcode::Pong),
    (5, WebSocketOpcode::Close),
    (1000, WebSocketOpcode::Continuation),
];

/// Number of the field with the kind of content, for peers that do not know the kind of inspection.
const CONTENT_TYPE: u32 = 3;

/// Number of `GUARDRAIL_CONTENT_TYPE_PROMPT`.
const CONTENT_PROMPT: u64 = 1;

impl WriteNumbered for GuardrailInspectionType {
    fn write(&self, field: u32, writer: &mut Writer<'_>) {
        if *self == Self::PromptInjection {
            writer.uint(CONTENT_TYPE, CONTENT_PROMPT);
        }
        writer.some_str(field, self.as_str());
    }
}

/// Implements reading of types, and gives the value of an absent field.
macro_rules! read {
    ($($kind:ty: |$value:ident, $envelope:ident| $read:expr, $absent:expr;)*) => {$(
        impl<'a> ReadNumbered<'a> for $kind {
            #[inline]
            fn absent() -> Self {
                $absent
            }

            #[inline(always)]
            fn read(&mut self, $value: Value<'a>, $envelope: &Bytes) -> Decoded<()> {
                *self = $read?;
                Ok(())
            }
        }
    )*};
}

read! {
    u16: |value, _envelope| value.number(), 0;
    u32: |value, _envelope| value.number(), 0;
    u64: |value, _envelope| value.number(), 0;
    usize: |value, _envelope| value.number(), 0;
    bool: |value, _envelope| value.bool(), false;
    &'a str: |value, _envelope| value.str(), "";
    String: |value, _envelope| value.string(), Self::new();
    Bytes: |value, envelope| value.bytes().map(|bytes| envelope.slice_ref(bytes)), Self::new();
    GuardrailInspectionType: |value, _envelope| {
        Self::from_wire(value.str()?).ok_or(DecodeErrorKind::UnknownName("inspection_type"))
    }, Self::PromptInjection;
}

impl<'a> ReadNumbered<'a> for WebSocketOpcode {
    const REQUIRED: Option<DecodeErrorKind> = Some(DecodeErrorKind::UnknownName("frame_type"));

    fn absent() -> Self {
        Self::Text
    }

    #[inline(always)]
    fn read(&mut self, value: Value<'a>, _: &Bytes) -> Decoded<()> {
        let number: u64 = value.number()?;
        let opcode = OPCODES.into_iter().find(|(known, _)| *known == number);
        let unknown = DecodeErrorKind::UnknownName("frame_type");
        *self = opcode.map(|(_, opcode)| opcode).ok_or(unknown)?;
        Ok(())
    }
}

impl<'a, T: ReadNumbered<'a>> ReadNumbered<'a> for Option<T> {
    #[inline]
    fn absent() -> Self {
        None
    }

    #[inline(always)]
    fn read(&mut self, value: Value<'a>, envelope: &Bytes) -> Decoded<()> {
        self.get_or_insert_with(T::absent).read(value, envelope)
    }
}

/// Implements reading of collections, to which every field adds an item.
macro_rules! read_collections {
    ($($kind:ty: |$all:ident, $value:ident| $add:expr;)*) => {$(
        impl<'a> ReadNumbered<'a> for $kind {
            fn absent() -> Self {
                Self::new()
            }

            #[inline(always)]
            fn read(&mut self, $value: Value<'a>, _: &Bytes) -> Decoded<()> {
                let $all = self;
                $add;
                Ok(())
            }
        }
    )*};
}

read_collections! {
    Vec<&'a str>: |items, value| items.push(value.str()?);
    Vec<String>: |items, value| items.push(value.string()?);
    Vec<(&'a str, &'a str)>: |pairs, value| pairs.push(header(value.bytes()?)?);
    // Of several entries with one key the last counts, as protobuf specifies.
    HashMap<String, String>: |map, value| {
        let (key, value) = header(value.bytes()?)?;
        map.insert(key.to_owned(), value.to_owned());
    };
}
