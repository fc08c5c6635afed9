//! Conversion to and from generated types.

use crate::wire::decode::Decoded;

/// A type with a counterpart among the generated ones.
pub(crate) trait InProtobuf: Sized {
    /// The generated type; for an enum, its number.
    type Proto: prost::Message + Default;

    fn to_proto(&self) -> Self::Proto;
    fn from_proto(message: Self::Proto) -> Decoded<Self>;
}

/// Implements [`InProtobuf`] for structs and the generated ones of the same names, field by field.
///
/// A field has the same type on both sides, unless it is marked as `converted` by its own
/// [`InProtobuf`] or as a `list` of such values:
///
/// ```text
/// same_fields! {
///     DrainRequest { duration_ms, reason: converted, timestamp_ms }
/// }
/// ```
macro_rules! same_fields {
    ($($message:ident { $($field:ident $(: $kind:ident)?),* $(,)? })*) => {$(
        impl InProtobuf for $message {
            type Proto = proto::$message;

            fn to_proto(&self) -> Self::Proto {
                Self::Proto { $($field: convert::to!(&self.$field $(, $kind)?)),* }
            }

            fn from_proto(message: Self::Proto) -> Decoded<Self> {
                Ok(Self { $($field: convert::from!(message.$field $(, $kind)?)),* })
            }
        }
    )*};
}

/// Converts a field to its generated form.
macro_rules! to {
    ($field:expr) => {
        Clone::clone($field)
    };
    ($field:expr, converted) => {
        InProtobuf::to_proto($field)
    };
    ($field:expr, list) => {
        $field.iter().map(InProtobuf::to_proto).collect()
    };
}

/// Converts a field from its generated form.
macro_rules! from {
    ($field:expr) => {
        $field
    };
    ($field:expr, converted) => {
        InProtobuf::from_proto($field)?
    };
    ($field:expr, list) => {
        $field
            .into_iter()
            .map(InProtobuf::from_proto)
            .collect::<Result<_, _>>()?
    };
}

/// Implements [`InProtobuf`] for enums, whose variants have the names of the generated ones. A
/// number without a variant is an error of the named field.
macro_rules! same_variants {
    ($($kind:ident as $generated:ty, $field:literal: [$($variant:ident),* $(,)?])*) => {$(
        impl InProtobuf for $kind {
            type Proto = i32;

            fn to_proto(&self) -> i32 {
                match self {
                    $(Self::$variant => <$generated>::$variant as i32,)*
                }
            }

            fn from_proto(number: i32) -> Decoded<Self> {
                match <$generated>::try_from(number) {
                    $(Ok(<$generated>::$variant) => Ok(Self::$variant),)*
                    _ => Err(DecodeErrorKind::UnknownName($field)),
                }
            }
        }
    )*};
}

pub(super) use {from, same_fields, same_variants, to};
