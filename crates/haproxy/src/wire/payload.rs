//! The payloads of questions and answers: messages with arguments, and actions.

use super::{Malformed, Reader, Value, Writer};

/// The messages of a question.
#[derive(Debug, Clone, Copy)]
pub struct Messages<'a>(Reader<'a>);

/// A message of a question.
#[derive(Debug, Clone, Copy)]
pub struct Message<'a> {
    /// Name of the message.
    pub name: &'a [u8],
    /// Number of its arguments.
    pub count: u8,
}

/// An argument of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Argument<'a> {
    /// Name of the argument, which may be empty.
    pub name: &'a [u8],
    /// Value of the argument.
    pub value: Value<'a>,
}

/// The arguments of one message. All are to be read before the next message.
#[derive(Debug)]
pub struct Arguments<'m, 'a> {
    reader: &'m mut Reader<'a>,
    left: u8,
}

impl<'a> Messages<'a> {
    /// Begins with the first message of a payload.
    pub const fn new(payload: &'a [u8]) -> Self {
        Self(Reader::new(payload))
    }

    /// Reads the beginning of the next message; `None` at the end.
    ///
    /// # Errors
    ///
    /// Any of [`Malformed`].
    pub fn read_next(&mut self) -> Result<Option<(Message<'a>, Arguments<'_, 'a>)>, Malformed> {
        if self.0.is_empty() {
            return Ok(None);
        }
        let name = self.0.string()?;
        let count = self.0.byte()?;
        let arguments = Arguments {
            reader: &mut self.0,
            left: count,
        };
        Ok(Some((Message { name, count }, arguments)))
    }
}

impl<'a> Arguments<'_, 'a> {
    /// Reads the next argument; `None` at the end.
    ///
    /// # Errors
    ///
    /// Any of [`Malformed`].
    #[inline]
    pub fn read_next(&mut self) -> Result<Option<Argument<'a>>, Malformed> {
        let Some(left) = self.left.checked_sub(1) else {
            return Ok(None);
        };
        self.left = left;
        Ok(Some(Argument {
            name: self.reader.string()?,
            value: self.reader.value()?,
        }))
    }
}

/// The life time of a variable.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Scope {
    /// As long as HAProxy.
    Process = 0,
    /// As long as the client's connection.
    Session = 1,
    /// A request and its response.
    Transaction = 2,
    /// A request.
    Request = 3,
    /// A response.
    Response = 4,
}

impl Scope {
    const fn from_number(number: u8) -> Option<Self> {
        Some(match number {
            0 => Self::Process,
            1 => Self::Session,
            2 => Self::Transaction,
            3 => Self::Request,
            4 => Self::Response,
            _ => return None,
        })
    }
}

/// An action of an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action<'a> {
    /// Sets a variable.
    SetVar {
        /// Life time of the variable.
        scope: Scope,
        /// Name of the variable, without the prefix that HAProxy adds.
        name: &'a [u8],
        /// New value.
        value: Value<'a>,
    },
    /// Removes a variable.
    UnsetVar {
        /// Life time of the variable.
        scope: Scope,
        /// Name of the variable.
        name: &'a [u8],
    },
}

const SET_VAR: u8 = 1;
const UNSET_VAR: u8 = 2;

impl Action<'_> {
    /// Appends the action.
    pub fn write(&self, out: &mut Writer<'_>) {
        match *self {
            Self::SetVar { scope, name, value } => {
                out.0.extend_from_slice(&[SET_VAR, 3, scope as u8]);
                out.string(name);
                out.value(value);
            }
            Self::UnsetVar { scope, name } => {
                out.0.extend_from_slice(&[UNSET_VAR, 2, scope as u8]);
                out.string(name);
            }
        }
    }
}

/// The actions of an answer.
#[derive(Debug, Clone, Copy)]
pub struct Actions<'a>(Reader<'a>);

impl<'a> Actions<'a> {
    /// Begins with the first action of a payload.
    pub const fn new(payload: &'a [u8]) -> Self {
        Self(Reader::new(payload))
    }

    /// Reads the next action; `None` at the end.
    ///
    /// # Errors
    ///
    /// Any of [`Malformed`].
    pub fn read_next(&mut self) -> Result<Option<Action<'a>>, Malformed> {
        let Self(reader) = self;
        if reader.is_empty() {
            return Ok(None);
        }
        let (kind, count) = (reader.byte()?, reader.byte()?);
        let scope = Scope::from_number(reader.byte()?).ok_or(Malformed::UnknownAction)?;
        let name = reader.string()?;
        Ok(Some(match (kind, count) {
            (SET_VAR, 3) => Action::SetVar {
                scope,
                name,
                value: reader.value()?,
            },
            (UNSET_VAR, 2) => Action::UnsetVar { scope, name },
            _ => return Err(Malformed::UnknownAction),
        }))
    }
}
