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

    /// Appends a number and a dot.
    #[inline]
    fn push_octet(&mut self, octet: u8) {
        let (text, len) = OCTETS[usize::from(octet)];
        self.bytes[self.len..self.len + text.len()].copy_from_slice(&text);
        self.len += usize::from(len);
    }
}

impl<A: Into<IpAddr>> From<A> for IpText {
    fn from(address: A) -> Self {
        let mut text = Self::EMPTY;
        match address.into().to_canonical() {
            IpAddr::V4(address) => {
                for octet in address.octets() {
                    text.push_octet(octet);
                }
                // The dot behind the last number.
                text.len -= 1;
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

/// Numbers in decimal with a dot behind them, and the length of both.
const OCTETS: [([u8; 4], u8); 256] = {
    let mut octets = [([0; 4], 0); 256];
    let mut number = 0;
    while number < octets.len() {
        let [a, b, c] = [number / 100, number / 10 % 10, number % 10];
        let digits = [b'0' + a as u8, b'0' + b as u8, b'0' + c as u8];
        octets[number] = match number {
            100.. => ([digits[0], digits[1], digits[2], b'.'], 4),
            10.. => ([digits[1], digits[2], b'.', 0], 3),
            _ => ([digits[2], b'.', 0, 0], 2),
        };
        number += 1;
    }
    octets
};

text::text_type!(IpText);
