//! Header changes that agents ask for.

use crate::protocol::HeaderOp;
use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use smallvec::SmallVec;

/// A collection of headers that can be changed: an `http::HeaderMap`, or a proxy's own type.
pub trait HeaderTarget {
    /// Returns the headers.
    fn headers(&self) -> &HeaderMap;
    /// Replaces all values of a header by one.
    ///
    /// # Errors
    ///
    /// [`HeadersFull`] if the collection cannot hold another header.
    fn set(&mut self, name: HeaderName, value: HeaderValue) -> Result<(), HeadersFull>;
    /// Adds a value and keeps those that exist.
    ///
    /// # Errors
    ///
    /// [`HeadersFull`] if the collection cannot hold another header.
    fn add(&mut self, name: HeaderName, value: HeaderValue) -> Result<(), HeadersFull>;
    /// Removes a header with all its values.
    fn remove(&mut self, name: &HeaderName);
}

impl HeaderTarget for HeaderMap {
    fn headers(&self) -> &HeaderMap {
        self
    }

    fn set(&mut self, name: HeaderName, value: HeaderValue) -> Result<(), HeadersFull> {
        self.try_insert(name, value)
            .map(drop)
            .map_err(|_| HeadersFull)
    }

    fn add(&mut self, name: HeaderName, value: HeaderValue) -> Result<(), HeadersFull> {
        self.try_append(name, value)
            .map(drop)
            .map_err(|_| HeadersFull)
    }

    fn remove(&mut self, name: &HeaderName) {
        Self::remove(self, name);
    }
}

/// Implements [`HeaderTarget`] for heads with a field `headers`.
macro_rules! heads {
    ($($head:ty),*) => {$(
        impl HeaderTarget for $head {
            fn headers(&self) -> &HeaderMap {
                &self.headers
            }

            fn set(&mut self, name: HeaderName, value: HeaderValue) -> Result<(), HeadersFull> {
                self.headers.set(name, value)
            }

            fn add(&mut self, name: HeaderName, value: HeaderValue) -> Result<(), HeadersFull> {
                self.headers.add(name, value)
            }

            fn remove(&mut self, name: &HeaderName) {
                self.headers.remove(name);
            }
        }
    )*};
}

heads!(http::request::Parts, http::response::Parts);

/// Error of a [`HeaderTarget`] that cannot hold another header.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the message cannot hold another header")]
pub struct HeadersFull;

/// Error of a header change that a proxy must not apply.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum HeaderOpError {
    /// The name is not a valid header name.
    #[error("'{0}' is not a valid header name")]
    InvalidName(String),
    /// The value is not a valid header value. One with a line break, for example, would be read as
    /// several headers.
    #[error("the new value of the header '{0}' is not a valid header value")]
    InvalidValue(HeaderName),
    /// The header frames the message or belongs to the connection, so only the proxy may change it.
    /// Otherwise the next server could see other messages than were sent (request smuggling).
    /// `host` may be set, but neither added nor removed.
    #[error("agents may not make this change to the header '{0}'")]
    Reserved(HeaderName),
    /// The message cannot hold another header.
    #[error(transparent)]
    Full(#[from] HeadersFull),
}

/// Applies header changes in order.
///
/// All changes are checked first: if one is invalid or not allowed, none is applied. Only if the
/// target is full ([`HeaderOpError::Full`]) have the changes before it been applied.
///
/// Values are written as UTF-8.
///
/// ```
/// use http::HeaderMap;
/// use tollgate::{HeaderOp, proxy::apply_header_ops};
///
/// let mut headers = HeaderMap::new();
/// let op = HeaderOp::Set { name: "X-User".to_owned(), value: "7".to_owned() };
/// apply_header_ops(&mut headers, &[op]).unwrap();
/// assert_eq!(headers["x-user"], "7");
/// ```
///
/// # Errors
///
/// The error of the first change that cannot be applied. A proxy that fails closed then rejects the
/// request.
pub fn apply_header_ops(
    target: &mut impl HeaderTarget,
    ops: &[HeaderOp],
) -> Result<(), HeaderOpError> {
    if ops.is_empty() {
        return Ok(());
    }
    let changes: SmallVec<[Change; 4]> = ops.iter().map(Change::of).collect::<Result<_, _>>()?;
    for change in changes {
        match change {
            Change::Set(name, value) => target.set(name, value)?,
            Change::Add(name, value) => target.add(name, value)?,
            Change::Remove(name) => target.remove(&name),
        }
    }
    Ok(())
}

/// A [`HeaderOp`] whose name and value have been checked.
enum Change {
    Set(HeaderName, HeaderValue),
    Add(HeaderName, HeaderValue),
    Remove(HeaderName),
}

impl Change {
    fn of(op: &HeaderOp) -> Result<Self, HeaderOpError> {
        Ok(match op {
            HeaderOp::Set { name, value } => {
                let name = changeable(name)?;
                let value = value_of(&name, value)?;
                Self::Set(name, value)
            }
            HeaderOp::Add { name, value } => {
                let name = not_single(changeable(name)?)?;
                let value = value_of(&name, value)?;
                Self::Add(name, value)
            }
            HeaderOp::Remove { name } => Self::Remove(not_single(changeable(name)?)?),
        })
    }
}

/// Headers that frame the message or belong to the connection.
const RESERVED: [HeaderName; 8] = [
    header::CONNECTION,
    header::CONTENT_LENGTH,
    header::TE,
    header::TRAILER,
    header::TRANSFER_ENCODING,
    header::UPGRADE,
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("proxy-connection"),
];

fn changeable(name: &str) -> Result<HeaderName, HeaderOpError> {
    let name = HeaderName::from_bytes(name.as_bytes())
        .map_err(|_| HeaderOpError::InvalidName(name.to_owned()))?;
    if RESERVED.contains(&name) {
        return Err(HeaderOpError::Reserved(name));
    }
    Ok(name)
}

/// Rejects `host`, which a request has exactly once: agents may only set it. Servers differ in what
/// they take a request without it, or with two of it, for.
fn not_single(name: HeaderName) -> Result<HeaderName, HeaderOpError> {
    if name == header::HOST {
        return Err(HeaderOpError::Reserved(name));
    }
    Ok(name)
}

fn value_of(name: &HeaderName, value: &str) -> Result<HeaderValue, HeaderOpError> {
    HeaderValue::from_bytes(value.as_bytes()).map_err(|_| HeaderOpError::InvalidValue(name.clone()))
}
