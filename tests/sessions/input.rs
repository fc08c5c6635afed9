//! Translates the bytes of an input into scripts of misbehaving peers.

/// Largest number of edits of one script.
const MAX_EDITS: usize = 12;

/// Number of bytes of an edit in the input.
const EDIT_LEN: usize = 5;

/// Behaviour of a peer on one connection: what it changes in a recorded session, and when it sends,
/// reads and ends.
#[derive(Debug, Clone)]
pub struct Script {
    /// Selects the recorded session.
    pub session: u8,
    pub reading: Reading,
    pub ending: Ending,
    pub edits: Vec<Edit>,
    /// Change of the bytes of a TLS connection.
    pub tls_edit: Option<Edit>,
}

/// One change. The meaning of `operation` is in `damage.rs`.
#[derive(Debug, Clone, Copy)]
pub struct Edit {
    pub operation: u8,
    /// Selects a unit of the session: a frame, a message or a frame of HTTP/2.
    pub unit: u8,
    /// Selects a byte of it.
    pub at: u16,
    pub value: u8,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reading {
    AtOnce,
    /// This many bytes per millisecond.
    Slowly(u8),
    Never,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ending {
    /// Closes the connection.
    Close,
    /// Closes its sending direction, and the other one later.
    HalfClose,
    /// Resets the connection. On a Unix socket this is a close with unread bytes.
    Reset,
    /// Remains silent until the other side closes the connection, or for longer than a handshake
    /// may take.
    Silence,
}

impl Script {
    /// Returns whether a recorded session is played as it was.
    pub fn changes_nothing(&self) -> bool {
        self.edits.is_empty() && self.tls_edit.is_none() && self.reading == Reading::AtOnce
    }
}

/// Reads scripts, one or two.
pub fn scripts(input: &[u8]) -> Vec<Script> {
    let mut input = input.iter().copied();
    let mut next = move || input.next().unwrap_or_default();
    let count = 1 + usize::from(next() % 4 == 3);
    (0..count).map(|_| script(&mut next)).collect()
}

fn script(next: &mut impl FnMut() -> u8) -> Script {
    let session = next();
    let reading = match next() {
        reading @ 224.. => Reading::Slowly(reading - 224),
        216..224 => Reading::Never,
        _ => Reading::AtOnce,
    };
    let ending = match next() % 8 {
        7 => Ending::Reset,
        5 | 6 => Ending::HalfClose,
        3 | 4 => Ending::Silence,
        _ => Ending::Close,
    };
    let tls_edit = (next() % 4 == 3).then(|| edit(next));
    let count = usize::from(next()) % (MAX_EDITS + 1);
    Script {
        session,
        reading,
        ending,
        edits: (0..count).map(|_| edit(next)).collect(),
        tls_edit,
    }
}

fn edit(next: &mut impl FnMut() -> u8) -> Edit {
    let [operation, unit, high, low, value] = std::array::from_fn(|_| next());
    Edit {
        operation,
        unit,
        at: u16::from_be_bytes([high, low]),
        value,
    }
}

/// Largest useful length of an input.
pub const MAX_LEN: usize = 1 + 2 * (5 + EDIT_LEN * (MAX_EDITS + 1));
