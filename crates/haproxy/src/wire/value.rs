//! Typed values.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// A typed value. Texts borrow from the frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Value<'a> {
    /// No value, as an argument has whose expression yields nothing.
    Null,
    /// A truth value.
    Bool(bool),
    /// A signed number of 32 bits.
    Int32(i32),
    /// A number of 32 bits.
    Uint32(u32),
    /// A signed number of 64 bits. HAProxy writes all numbers as this.
    Int64(i64),
    /// A number of 64 bits.
    Uint64(u64),
    /// An IPv4 address.
    Ipv4(Ipv4Addr),
    /// An IPv6 address.
    Ipv6(Ipv6Addr),
    /// A text, which need not be UTF-8.
    String(&'a [u8]),
    /// Bytes.
    Binary(&'a [u8]),
}

impl<'a> Value<'a> {
    /// Returns a number of any type, if it is one and fits.
    pub fn as_number(self) -> Option<i64> {
        match self {
            Self::Int32(number) => Some(number.into()),
            Self::Uint32(number) => Some(number.into()),
            Self::Int64(number) => Some(number),
            Self::Uint64(number) => i64::try_from(number).ok(),
            _ => None,
        }
    }

    /// Returns the bytes of a text or of binary data.
    pub const fn as_bytes(self) -> Option<&'a [u8]> {
        match self {
            Self::String(bytes) | Self::Binary(bytes) => Some(bytes),
            _ => None,
        }
    }

    /// Returns an address.
    pub const fn as_address(self) -> Option<IpAddr> {
        match self {
            Self::Ipv4(address) => Some(IpAddr::V4(address)),
            Self::Ipv6(address) => Some(IpAddr::V6(address)),
            _ => None,
        }
    }
}

impl<'a> From<&'a str> for Value<'a> {
    fn from(text: &'a str) -> Self {
        Self::String(text.as_bytes())
    }
}
