//! Reading values, whatever the encoding.

use bytes::Bytes;
use std::fmt;

/// A cursor over the values of one payload.
///
/// Values come in the order they are written; what a map or array holds follows it directly.
pub(crate) trait Source<'a>: Clone {
    /// What comes next, without reading it.
    fn peek(&self) -> Result<Kind, DecodeErrorKind>;
    /// Enters a map; its pairs follow.
    fn map(&mut self) -> Result<usize, DecodeErrorKind>;
    /// Enters an array; its items follow.
    fn array(&mut self) -> Result<usize, DecodeErrorKind>;
    fn str(&mut self) -> Result<&'a str, DecodeErrorKind>;
    fn bool(&mut self) -> Result<bool, DecodeErrorKind>;
    fn integer(&mut self) -> Result<i128, DecodeErrorKind>;
    /// A number of any kind.
    fn float(&mut self) -> Result<f64, DecodeErrorKind>;
    /// Bytes, or base64 text that stands for them; the encoding's type decides which.
    fn body(&mut self) -> Result<Bytes, DecodeErrorKind>;
    /// Passes over one value with all that it holds.
    fn skip(&mut self) -> Result<(), DecodeErrorKind>;
    /// Passes over a key if it is this one. Fields mostly come in order, so most keys are known before they are
    /// read.
    fn skip_key(&mut self, name: &str) -> bool;

    /// Reads a null, if that is what comes next.
    fn null(&mut self) -> Result<bool, DecodeErrorKind> {
        if self.peek()? != Kind::Null {
            return Ok(false);
        }
        self.skip()?;
        Ok(true)
    }

    /// Reads a value that may be null.
    fn optional<T>(
        &mut self,
        read: impl FnOnce(&mut Self) -> Result<T, DecodeErrorKind>,
    ) -> Result<Option<T>, DecodeErrorKind> {
        if self.null()? {
            return Ok(None);
        }
        read(self).map(Some)
    }

    /// Reads an integer of a narrower type.
    fn number<T: TryFrom<i128>>(&mut self) -> Result<T, DecodeErrorKind> {
        T::try_from(self.integer()?).map_err(|_| DecodeErrorKind::OutOfRange)
    }

    /// Reads a list; null is an empty one, since some languages write it so.
    fn list<T>(
        &mut self,
        mut read: impl FnMut(&mut Self) -> Result<T, DecodeErrorKind>,
    ) -> Result<Vec<T>, DecodeErrorKind> {
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

    /// Reads the pairs of a map with string keys; null is an empty one.
    fn pairs(
        &mut self,
        mut read: impl FnMut(&'a str, &mut Self) -> Result<(), DecodeErrorKind>,
    ) -> Result<(), DecodeErrorKind> {
        if self.null()? {
            return Ok(());
        }
        for _ in 0..self.map()? {
            let key = self.str()?;
            read(key, self)?;
        }
        Ok(())
    }

    /// Reads a struct, calling `read` with the place of each field in `names`.
    ///
    /// Structs are maps by field name, or arrays in field order (as 0.6.11 writes them). Unknown names
    /// and surplus items are passed over.
    fn fields(
        &mut self,
        names: &[&str],
        mut read: impl FnMut(usize, &mut Self) -> Result<(), DecodeErrorKind>,
    ) -> Result<(), DecodeErrorKind> {
        if self.peek()? == Kind::Array {
            for at in 0..self.array()? {
                if at < names.len() {
                    read(at, self)?;
                } else {
                    self.skip()?;
                }
            }
            return Ok(());
        }
        let mut expected = 0;
        for _ in 0..self.map()? {
            let place = match names.get(expected) {
                Some(name) if self.skip_key(name) => Some(expected),
                _ => place_of(self.str()?, names),
            };
            match place {
                Some(at) => {
                    expected = at + 1;
                    read(at, self)?;
                }
                None => self.skip()?,
            }
        }
        Ok(())
    }
}

/// Room that is made on the word of a length, before the items are there.
const MAX_PREALLOCATED: usize = 64;

fn place_of(key: &str, names: &[&str]) -> Option<usize> {
    names.iter().position(|name| *name == key)
}

/// The kinds of value.
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

/// A field of a struct that is being read. It may be given twice if both values agree.
pub(crate) struct Field<T>(Option<T>);

impl<T: PartialEq> Field<T> {
    pub(crate) const fn new() -> Self {
        Self(None)
    }

    pub(crate) fn set(&mut self, value: T) -> Result<(), DecodeErrorKind> {
        if is_new(self.0.as_ref(), &value)? {
            self.0 = Some(value);
        }
        Ok(())
    }

    pub(crate) fn required(self, name: &'static str) -> Result<T, DecodeErrorKind> {
        self.0.ok_or(DecodeErrorKind::Missing(name))
    }
}

impl<T: Default> Field<T> {
    pub(crate) fn or_default(self) -> T {
        self.0.unwrap_or_default()
    }
}

/// Whether a value is given for the first time; if not, it must agree with the earlier one.
pub(crate) fn is_new<T: PartialEq>(
    earlier: Option<&T>,
    value: &T,
) -> Result<bool, DecodeErrorKind> {
    match earlier {
        None => Ok(true),
        Some(earlier) if earlier == value => Ok(false),
        Some(_) => Err(DecodeErrorKind::Contradiction),
    }
}

/// A message that does not decode.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DecodeError {
    /// Which message.
    pub(crate) message: &'static str,
    /// What is wrong with it.
    pub(crate) kind: DecodeErrorKind,
}

impl DecodeError {
    pub(crate) fn in_message(message: &'static str) -> impl Fn(DecodeErrorKind) -> Self {
        move |kind| Self { message, kind }
    }

    /// What is wrong with the message.
    pub const fn kind(&self) -> DecodeErrorKind {
        self.kind
    }
}

impl fmt::Display for DecodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} does not decode: {}", self.message, self.kind)
    }
}

impl std::error::Error for DecodeError {}

/// What is wrong with a message that does not decode.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DecodeErrorKind {
    /// The payload ends in the middle of a value.
    #[error("it ends in the middle of a value")]
    CutShort,
    /// The payload goes on after the message.
    #[error("there is something behind it")]
    Surplus,
    /// Not valid JSON, or a reserved MessagePack marker.
    #[error("its syntax is wrong")]
    Syntax,
    /// A value of another type than the protocol says.
    #[error("a value has the wrong type")]
    WrongType,
    /// A number that does not fit its field.
    #[error("a number is out of range")]
    OutOfRange,
    /// Text that is not UTF-8.
    #[error("text is not UTF-8")]
    NotUtf8,
    /// A body that is neither bytes nor base64.
    #[error("a body is not base64")]
    NotBase64,
    /// A field that must be there is not.
    #[error("field `{0}` is missing")]
    Missing(&'static str),
    /// A field is given twice with different values.
    #[error("a field is given twice with different values")]
    Contradiction,
    /// A name that the protocol does not know, where it matters.
    #[error("`{0}` has an unknown value")]
    UnknownName(&'static str),
    /// It answers an event that was not sent yet.
    #[error("it answers an event that was not sent")]
    Unasked,
    /// More free-form values than a message may hold: 100,000.
    #[error("it holds too many values")]
    TooMany,
    /// Values nested deeper than [`MAX_DEPTH`](crate::MAX_DEPTH).
    #[error("values are nested too deep")]
    TooDeep,
}

impl DecodeErrorKind {
    /// A short name for audit reason codes and counters.
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

/// Decodes base64 as the protocol has it: standard alphabet, padded.
pub(crate) fn base64(text: &str) -> Result<Bytes, DecodeErrorKind> {
    if text.is_empty() {
        return Ok(Bytes::new());
    }
    base64_simd::STANDARD
        .decode_to_vec(text)
        .map(Bytes::from)
        .map_err(|_| DecodeErrorKind::NotBase64)
}
