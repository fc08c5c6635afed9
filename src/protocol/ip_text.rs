//! IP addresses as text.

use super::text;
use std::io::Write;
use std::net::IpAddr;

/// An IP address as text, in the form that events carry: that of [`IpAddr::to_canonical`], so that
/// one client has one address.
///
/// Does not allocate. IPv4 addresses are written without `std::fmt`, which is much faster.
///
/// ```
/// use std::net::Ipv4Addr;
/// use tollgate::events::IpText;
///
/// assert_eq!(&*IpText::from(Ipv4Addr::LOCALHOST), "127.0.0.1");
/// ```
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct IpText {
    bytes: [u8; MAX_LEN],
    len: usize,
}

/// Length of the longest text: an IPv6 address that ends with an IPv4 address.
const MAX_LEN: usize = 45;

impl IpText {
    /// No text.
    pub(crate) const EMPTY: Self = Self {
        bytes: [0; MAX_LEN],
        len: 0,
    };

    /// Returns the text.
    pub fn as_str(&self) -> &str {
        // The bytes are ASCII, so the default is never used.
        text::from_utf8(&self.bytes[..self.len]).unwrap_or_default()
    }

    fn push(&mut self, byte: u8) {
        self.bytes[self.len] = byte;
        self.len += 1;
    }

    fn push_number(&mut self, number: u8) {
        if number >= 100 {
            self.push(b'0' + number / 100);
        }
        if number >= 10 {
            self.push(b'0' + number / 10 % 10);
        }
        self.push(b'0' + number % 10);
    }
}

impl<A: Into<IpAddr>> From<A> for IpText {
    fn from(address: A) -> Self {
        let mut text = Self::EMPTY;
        match address.into().to_canonical() {
            IpAddr::V4(address) => {
                let [first, rest @ ..] = address.octets();
                text.push_number(first);
                for octet in rest {
                    text.push(b'.');
                    text.push_number(octet);
                }
            }
            IpAddr::V6(address) => {
                let mut free = &mut text.bytes[..];
                // Every address fits in `MAX_LEN` bytes, so this cannot fail.
                let _ = write!(free, "{address}");
                text.len = MAX_LEN - free.len();
            }
        }
        text
    }
}

text::text_type!(IpText);
