//! Fields of messages in JSON and MessagePack: what a value of each type is, and macros that read
//! and write the fields of a struct, each of which is named once.

use super::decode::{DecodeErrorKind, Decoded, Kind, Source, is_new};
use super::encode::Sink;
use bytes::Bytes;
use std::collections::HashMap;

/// A value that can be written.
pub(super) trait WriteField {
    /// Set for bodies. They are the last value of a message, so that they need not be copied.
    const IS_BODY: bool = false;

    fn write<S: Sink>(&self, sink: &mut S);

    /// Returns the number of bytes, if this is a body.
    fn body_len(&self) -> usize {
        0
    }
}

/// A value that can be read.
pub(super) trait ReadField<'a>: Sized {
    fn read<S: Source<'a>>(source: &mut S) -> Decoded<Self>;
}

/// Reads the fields of a struct into variables of the same names.
///
/// A field is required, unless it is marked by `[default]`. It is read by its [`ReadField`], or by
/// the function after `by`. Its key is its name, or what stands after `as`. In an array the fields
/// have the order of the list.
///
/// ```text
/// read_fields!(source => name, tags [default], custom [default] by read_custom);
/// ```
macro_rules! read_fields {
    ($source:expr => $($fields:tt)+) => {
        $crate::wire::fields::read_fields!($source, $crate::wire::decode::Source::fields => $($fields)+);
    };
    ($source:expr, $each:path => $(
        $field:ident $([$($mark:tt)*])? $(by $read:path)? $(as $key:expr)?
    ),+ $(,)?) => {
        $(let mut $field = $crate::wire::decode::Field::new();)+
        {
            #[allow(non_camel_case_types, reason = "named like the fields")]
            enum Position { $($field),+ }
            let keys = &[$($crate::wire::fields::key!($field $($key)?)),+];
            $each($source, keys, |position, source| match position {
                $(at if at == Position::$field as usize => {
                    $field.set($crate::wire::fields::read!(source $($read)?)?)
                })+
                _ => source.skip(),
            })?;
        }
        $(let $field = $crate::wire::fields::finish!($field $([$($mark)*])?);)+
    };
}

/// Reads a struct, or a variant of an enum, whose fields are those of the list. See
/// [`read_fields`].
macro_rules! read_struct {
    ($source:expr $(, $each:path)? => $($kind:ident)::+ { $(
        $field:ident $([$($mark:tt)*])? $(by $read:path)? $(as $key:expr)?
    ),+ $(,)? }) => {{
        $crate::wire::fields::read_fields!(
            $source $(, $each)? => $($field $([$($mark)*])? $(by $read)? $(as $key)?),+
        );
        Ok($($kind)::+ { $($field),+ })
    }};
}

macro_rules! key {
    ($field:ident) => {
        stringify!($field)
    };
    ($field:ident $key:expr) => {
        $key
    };
}

macro_rules! read {
    ($source:ident) => {
        $crate::wire::fields::ReadField::read($source)
    };
    ($source:ident $read:path) => {
        $read($source)
    };
}

macro_rules! finish {
    ($field:ident [default $($rest:tt)*]) => {
        $field.or_default()
    };
    ($field:ident $([$($mark:tt)*])?) => {
        $field.required(stringify!($field))?
    };
}

/// Writes a map of fields, given as `name: reference`. Bodies come last.
macro_rules! write_fields {
    ($sink:expr => $($field:ident: $value:expr),+ $(,)?) => {{
        let sink = &mut *$sink;
        sink.begin_map([$(stringify!($field)),+].len());
        $($crate::wire::fields::write_unless_body(stringify!($field), $value, sink);)+
        $($crate::wire::fields::write_body(stringify!($field), $value, sink);)+
        sink.end_map();
    }};
}

/// Implements reading and writing of an enum: a variant is its name, or a map from its name to its
/// fields.
///
/// ```text
/// enum_fields! {
///     WebSocketDecision "websocket decision":
///     "allow" => Allow,
///     "close" => Close { code, reason [default] },
/// }
/// ```
macro_rules! enum_fields {
    ($kind:ident $what:literal: $(
        $name:literal => $variant:ident $({ $($field:ident $([$($mark:tt)*])?),+ })?
    ),+ $(,)?) => {
        impl WriteField for $kind {
            fn write<S: Sink>(&self, sink: &mut S) {
                match self {
                    $(Self::$variant $({ $($field),+ })? => {
                        $crate::wire::fields::write_variant!(sink $name $({ $($field),+ })?);
                    })+
                }
            }
        }

        impl<'a> ReadField<'a> for $kind {
            fn read<S: Source<'a>>(source: &mut S) -> Decoded<Self> {
                match $crate::wire::fields::Variant::read(source)? {
                    $($crate::wire::fields::variant!($name $({ $($field),+ })?) => {
                        $crate::wire::fields::read_variant!(
                            source Self::$variant $({ $($field $([$($mark)*])?),+ })?
                        )
                    })+
                    _ => Err(DecodeErrorKind::UnknownName($what)),
                }
            }
        }
    };
}

macro_rules! write_variant {
    ($sink:ident $name:literal) => {
        $sink.str($name)
    };
    ($sink:ident $name:literal { $($field:ident),+ }) => {
        $sink.begin_map(1);
        $sink.key($name);
        $crate::wire::fields::write_fields!($sink => $($field: $field),+);
        $sink.end_map();
    };
}

macro_rules! variant {
    ($name:literal) => {
        $crate::wire::fields::Variant::Unit($name)
    };
    ($name:literal { $($field:ident),+ }) => {
        $crate::wire::fields::Variant::Struct($name)
    };
}

macro_rules! read_variant {
    ($source:ident $($variant:ident)::+) => {
        Ok($($variant)::+)
    };
    ($source:ident $($variant:ident)::+ { $($fields:tt)+ }) => {
        $crate::wire::fields::read_struct!($source => $($variant)::+ { $($fields)+ })
    };
}

/// Name of a variant of an enum.
pub(super) enum Variant<'a> {
    Unit(&'a str),
    /// The fields follow.
    Struct(&'a str),
}

impl<'a> Variant<'a> {
    pub(super) fn read<S: Source<'a>>(source: &mut S) -> Decoded<Self> {
        if source.peek()? == Kind::Str {
            return source.str().map(Self::Unit);
        }
        match source.map()? {
            1 => source.str().map(Self::Struct),
            _ => Err(DecodeErrorKind::WrongType),
        }
    }
}

#[inline(always)]
pub(super) fn write_if<T: WriteField, S: Sink>(
    is_written: bool,
    name: &str,
    value: &T,
    sink: &mut S,
) {
    if is_written {
        sink.key(name);
        value.write(sink);
    }
}

#[inline(always)]
pub(super) fn write_unless_body<T: WriteField, S: Sink>(name: &str, value: &T, sink: &mut S) {
    write_if(!T::IS_BODY, name, value, sink);
}

#[inline(always)]
pub(super) fn write_body<T: WriteField, S: Sink>(name: &str, value: &T, sink: &mut S) {
    write_if(T::IS_BODY, name, value, sink);
}

/// Implements both traits for types that a method of the sink writes and one of the source reads.
macro_rules! field_types {
    ($($kind:ty: |$value:ident, $sink:ident| $write:expr, |$source:ident| $read:expr;)*) => {$(
        impl WriteField for $kind {
            #[inline]
            fn write<S: Sink>(&self, $sink: &mut S) {
                let $value = self;
                $write;
            }
        }

        impl<'a> ReadField<'a> for $kind {
            #[inline]
            fn read<S: Source<'a>>($source: &mut S) -> Decoded<Self> {
                $read
            }
        }
    )*};
}

pub(super) use {
    enum_fields, field_types, finish, key, read, read_fields, read_struct, read_variant, variant,
    write_fields, write_variant,
};

field_types! {
    u16: |number, sink| sink.uint(u64::from(*number)), |source| source.number();
    u32: |number, sink| sink.uint(u64::from(*number)), |source| source.number();
    u64: |number, sink| sink.uint(*number), |source| source.number();
    usize: |number, sink| sink.uint(*number as u64), |source| source.number();
    bool: |flag, sink| sink.bool(*flag), |source| source.bool();
    String: |text, sink| sink.str(text), |source| source.str().map(str::to_owned);
}

impl WriteField for &str {
    #[inline]
    fn write<S: Sink>(&self, sink: &mut S) {
        sink.str(self);
    }
}

impl<'a> ReadField<'a> for &'a str {
    #[inline]
    fn read<S: Source<'a>>(source: &mut S) -> Decoded<Self> {
        source.str()
    }
}

impl<T: WriteField> WriteField for Option<T> {
    const IS_BODY: bool = T::IS_BODY;

    #[inline]
    fn write<S: Sink>(&self, sink: &mut S) {
        match self {
            Some(value) => value.write(sink),
            None => sink.null(),
        }
    }

    fn body_len(&self) -> usize {
        self.as_ref().map_or(0, T::body_len)
    }
}

impl<'a, T: ReadField<'a>> ReadField<'a> for Option<T> {
    #[inline]
    fn read<S: Source<'a>>(source: &mut S) -> Decoded<Self> {
        source.optional(T::read)
    }
}

impl WriteField for Bytes {
    const IS_BODY: bool = true;

    fn write<S: Sink>(&self, sink: &mut S) {
        sink.last_body(self);
    }

    fn body_len(&self) -> usize {
        self.len()
    }
}

impl<'a> ReadField<'a> for Bytes {
    fn read<S: Source<'a>>(source: &mut S) -> Decoded<Self> {
        source.body()
    }
}

impl<T: WriteField> WriteField for Vec<T> {
    fn write<S: Sink>(&self, sink: &mut S) {
        sink.begin_array(self.len());
        for item in self {
            item.write(sink);
        }
        sink.end_array();
    }
}

impl<'a, T: ReadField<'a>> ReadField<'a> for Vec<T> {
    fn read<S: Source<'a>>(source: &mut S) -> Decoded<Self> {
        source.list(T::read)
    }
}

impl WriteField for HashMap<String, String> {
    fn write<S: Sink>(&self, sink: &mut S) {
        sink.str_map(
            self.iter()
                .map(|(key, value)| (key.as_str(), value.as_str())),
        );
    }
}

impl<'a> ReadField<'a> for HashMap<String, String> {
    fn read<S: Source<'a>>(source: &mut S) -> Decoded<Self> {
        let mut map = Self::new();
        source.pairs(|key, source| insert_once(&mut map, key, String::read(source)?))?;
        Ok(map)
    }
}

impl WriteField for Vec<(&str, &str)> {
    fn write<S: Sink>(&self, sink: &mut S) {
        sink.str_map(self.iter().copied());
    }
}

impl<'a> ReadField<'a> for Vec<(&'a str, &'a str)> {
    fn read<S: Source<'a>>(source: &mut S) -> Decoded<Self> {
        let mut pairs = Self::new();
        source.pairs(|key, source| {
            pairs.push((key, source.str()?));
            Ok(())
        })?;
        Ok(pairs)
    }
}

/// Inserts a value. A key may be repeated if its values are equal.
pub(super) fn insert_once<T: PartialEq>(
    map: &mut HashMap<String, T>,
    key: &str,
    value: T,
) -> Decoded<()> {
    if is_new(map.get(key), &value)? {
        map.insert(key.to_owned(), value);
    }
    Ok(())
}
