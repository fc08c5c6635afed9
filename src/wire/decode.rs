//! Reading of values, independent of the encoding, and decode errors.

use bytes::Bytes;
use std::fmt;

/// Most items that memory is reserved for before they are read, since a length cannot be trusted.
const MAX_PREALLOCATED: usize = 64;

/// A cursor over the values of one payload.
///
/// Values are read in the order in which they were written. The contents of a map or array follow
/// its header directly.
pub(crate) trait Source<'a>: Clone {
    /// Returns the kind of the next value without consuming it.
    fn peek(&self) -> Decoded<Kind>;
    /// Enters a map and returns its number of pairs. The pairs follow.
    fn map(&mut self) -> Decoded<usize>;
    /// Enters an array and returns its number of items. The items follow.
    fn array(&mut self) -> Decoded<usize>;
    fn str(&mut self) -> Decoded<&'a str>;
    fn bool(&mut self) -> Decoded<bool>;
    fn integer(&mut self) -> Decoded<i128>;
    /// Reads a number of any kind.
    fn float(&mut self) -> Decoded<f64>;
    /// Reads a body: bytes, or base64 text that is decoded. The type of the value decides which.
    fn body(&mut self) -> Decoded<Bytes>;
    /// Skips one value, including everything nested in it.
    fn skip(&mut self) -> Decoded<()>;
    /// Skips the next key and returns `true` if it is `name`; otherwise reads nothing.
    ///
    /// Fields usually arrive in the declared order, so comparing with the expected key first is
    /// cheaper than reading each key and searching for it.
    fn skip_key(&mut self, name: &str) -> bool;

    /// Consumes the next value if it is null, and returns whether it was.
    fn null(&mut self) -> Decoded<bool> {
        if self.peek()? != Kind::Null {
            return Ok(false);
        }
        self.skip()?;
        Ok(true)
    }

    /// Reads a value that may be null.
    fn optional<T>(&mut self, read: impl FnOnce(&mut Self) -> Decoded<T>) -> Decoded<Option<T>> {
        if self.null()? {
            return Ok(None);
        }
        read(self).map(Some)
    }

    /// Reads an integer of a narrower type.
    fn number<T: TryFrom<i128>>(&mut self) -> Decoded<T> {
        T::try_from(self.integer()?).map_err(|_| DecodeErrorKind::OutOfRange)
    }

    /// Reads a list. Null counts as an empty list, since some languages write it that way.
    fn list<T>(&mut self, mut read: impl FnMut(&mut Self) -> Decoded<T>) -> Decoded<Vec<T>> {
        if self.null()? {
            return Ok(Vec::new());
        }
        let len = self.array()?;
        let mut items = Vec::with_capacity(len.min(MAX_PREALLOCATED));
        for _ in 0..len {
            items.push(read(self)?);
        }
        Ok(items)
    }

    /// Reads the pairs of a map with string keys. Null counts as an empty map.
    fn pairs(&mut self, mut read: impl FnMut(&'a str, &mut Self) -> Decoded<()>) -> Decoded<()> {
        if self.null()? {
            return Ok(());
        }
        for _ in 0..self.map()? {
            let key = self.str()?;
            read(key, self)?;
        }
        Ok(())
    }

    /// Reads a struct, calling `read` with the index of each field in `names`.
    ///
    /// A struct is a map keyed by field name, or an array in field order, as version 0.6.11 of
    /// `zentinel-agent-protocol` writes it. Unknown names and surplus items are skipped.
    fn fields(
        &mut self,
        names: &[&str],
        mut read: impl FnMut(usize, &mut Self) -> Decoded<()>,
    ) -> Decoded<()> {
        if self.peek()? == Kind::Array {
            for index in 0..self.array()? {
                if index < names.len() {
                    read(index, self)?;
                } else {
                    self.skip()?;
                }
            }
            return Ok(());
        }
        let mut expected = 0;
        for _ in 0..self.map()? {
            let index = match names.get(expected) {
                Some(name) if self.skip_key(name) => Some(expected),
                _ => index_of(self.str()?, names),
            };
            match index {
                Some(index) => {
                    expected = index + 1;
                    read(index, self)?;
                }
                None => self.skip()?,
            }
        }
        Ok(())
    }
}

fn index_of(key: &str, names: &[&str]) -> Option<usize> {
    names.iter().position(|name| *name == key)
}

/// Kind of a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Null,
    Bool,
    Integer,
    Float,
    Str,
    Bytes,
    Array,
    Map,
}

/// A field of a struct that is being decoded. It may be repeated if all its values are equal.
pub(crate) struct Field<T>(Option<T>);

impl<T: PartialEq> Field<T> {
    pub(crate) const fn new() -> Self {
        Self(None)
    }

    pub(crate) fn set(&mut self, value: T) -> Decoded<()> {
        if is_new(self.0.as_ref(), &value)? {
            self.0 = Some(value);
        }
        Ok(())
    }

    pub(crate) fn required(self, name: &'static str) -> Decoded<T> {
        self.0.ok_or(DecodeErrorKind::Missing(name))
    }
}

impl<T: Default> Field<T> {
    pub(crate) fn or_default(self) -> T {
        self.0.unwrap_or_default()
    }
}

/// Returns `true` if there is no earlier value, and `false` if the earlier value is equal.
///
/// A different earlier value is a [`Contradiction`](DecodeErrorKind::Contradiction).
pub(crate) fn is_new<T: PartialEq>(earlier: Option<&T>, value: &T) -> Decoded<bool> {
    match earlier {
        None => Ok(true),
        Some(earlier) if earlier == value => Ok(false),
        Some(_) => Err(DecodeErrorKind::Contradiction),
    }
}

/// A message that cannot be decoded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DecodeError {
    /// Name of the message, such as `agent response`.
    pub(crate) message: &'static str,
    /// Reason why decoding failed.
    pub(crate) kind: DecodeErrorKind,
}

impl DecodeError {
    /// Returns a function that turns an error kind into an error of `message`.
    pub(crate) fn in_message(message: &'static str) -> impl Fn(DecodeErrorKind) -> Self {
        move |kind| Self { message, kind }
    }

    /// Returns the reason why decoding failed.
    pub const fn kind(&self) -> DecodeErrorKind {
        self.kind
    }
}

impl fmt::Display for DecodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "invalid {}: {}", self.message, self.kind)
    }
}

impl std::error::Error for DecodeError {}

/// A decoded value, or the reason why it cannot be decoded.
pub(crate) type Decoded<T> = Result<T, DecodeErrorKind>;

/// Reason why a message cannot be decoded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DecodeErrorKind {
    /// The payload ends in the middle of a value.
    #[error("the message ends in the middle of a value")]
    CutShort,
    /// The payload continues after the end of the message.
    #[error("trailing data after the message")]
    Surplus,
    /// The payload is not valid JSON, or contains the reserved MessagePack marker.
    #[error("invalid syntax")]
    Syntax,
    /// A value has another type than the protocol requires.
    #[error("a value has the wrong type")]
    WrongType,
    /// A number does not fit its field.
    #[error("a number is out of range")]
    OutOfRange,
    /// Text is not valid UTF-8.
    #[error("text is not valid UTF-8")]
    NotUtf8,
    /// A body is neither bytes nor valid base64.
    #[error("a body is not valid base64")]
    NotBase64,
    /// A required field is missing.
    #[error("field `{0}` is missing")]
    Missing(&'static str),
    /// A field is repeated with a different value.
    #[error("a field is repeated with a different value")]
    Contradiction,
    /// A field or enum has a value that the protocol does not define.
    #[error("`{0}` has an unknown value")]
    UnknownName(&'static str),
    /// The response arrived before its event was sent.
    #[error("the response arrived before its event was sent")]
    Unasked,
    /// The message holds more than 100,000 free-form values.
    #[error("the message holds too many values")]
    TooMany,
    /// Values are nested deeper than [`MAX_DEPTH`](crate::events::MAX_DEPTH).
    #[error("values are nested too deeply")]
    TooDeep,
}

impl DecodeErrorKind {
    /// Returns a short, stable name for audit reason codes and counters.
    pub const fn code(self) -> &'static str {
        match self {
            Self::CutShort => "cut_short",
            Self::Surplus => "surplus",
            Self::Syntax => "syntax",
            Self::WrongType => "wrong_type",
            Self::OutOfRange => "out_of_range",
            Self::NotUtf8 => "not_utf8",
            Self::NotBase64 => "not_base64",
            Self::Missing(_) => "missing_field",
            Self::Contradiction => "contradiction",
            Self::UnknownName(_) => "unknown_name",
            Self::Unasked => "unasked",
            Self::TooMany => "too_many",
            Self::TooDeep => "too_deep",
        }
    }
}

/// Returns what a value of an expected form holds. Any other has the wrong type.
macro_rules! expected {
    ($value:expr, $($form:pat => $content:expr),+) => {
        match $value {
            $($form => Ok($content),)+
            _ => Err(DecodeErrorKind::WrongType),
        }
    };
}
pub(super) use expected;

/// Decodes base64 with the standard alphabet and padding, as the protocol requires.
pub(crate) fn base64(text: &str) -> Decoded<Bytes> {
    if text.is_empty() {
        return Ok(Bytes::new());
    }
    base64_simd::STANDARD
        .decode_to_vec(text)
        .map(Bytes::from)
        .map_err(|_| DecodeErrorKind::NotBase64)
}
