//! Numbers that stand for frequent texts, and the fields that they may replace.

use super::header_names::{known, name_of, number_of};
use crate::protocol::events::WebSocketOpcode;
use crate::protocol::timestamp::LastTimestamp;
use crate::protocol::{GuardrailInspectionType, IpText, Timestamp};
use crate::wire::decode::{DecodeErrorKind, Decoded, Source};
use crate::wire::encode::Sink;
use crate::wire::msgpack::{Reader, Writer};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Defines texts by number, and the functions that write and read them. A text without a number is
/// written as it is.
macro_rules! numbered_texts {
    ($($write:ident, $read:ident($what:literal): $($text:literal = $number:literal),+;)*) => {$(
        #[inline]
        pub(super) fn $write(text: &str, writer: &mut Writer<'_>) {
            match text {
                $($text => writer.uint($number),)+
                _ => writer.str(text),
            }
        }

        #[inline]
        pub(super) fn $read<'a>(source: &mut Reader<'a>) -> Decoded<&'a str> {
            let Some(number) = number(source)? else {
                return source.str();
            };
            match number {
                $($number => Ok($text),)+
                _ => Err(DecodeErrorKind::UnknownName($what)),
            }
        }
    )*};
}

numbered_texts! {
    write_method, read_method("method"):
        "GET" = 0, "HEAD" = 1, "POST" = 2, "PUT" = 3, "DELETE" = 4, "CONNECT" = 5, "OPTIONS" = 6,
        "TRACE" = 7, "PATCH" = 8;
    write_protocol, read_protocol("protocol"):
        "HTTP/0.9" = 0, "HTTP/1.0" = 1, "HTTP/1.1" = 2, "HTTP/2" = 3, "HTTP/2.0" = 4,
        "HTTP/3" = 5, "HTTP/3.0" = 6;
    write_tls_version, read_tls_version("tls_version"):
        "TLSv1.0" = 0, "TLSv1.1" = 1, "TLSv1.2" = 2, "TLSv1.3" = 3;
}

/// Reads a number, if the next value is one.
#[inline]
pub(super) fn number(source: &mut Reader<'_>) -> Decoded<Option<u64>> {
    if !source.is_at_integer() {
        return Ok(None);
    }
    source.uint().map(Some)
}

/// Defines the numbers of the variants of an enum.
macro_rules! numbered_variants {
    ($($write:ident, $read:ident($what:literal): $kind:ident { $($variant:ident = $number:literal),+ })*) => {$(
        pub(in crate::wire) fn $write(value: $kind, writer: &mut Writer<'_>) {
            writer.uint(match value {
                $($kind::$variant => $number,)+
            });
        }

        pub(super) fn $read(source: &mut Reader<'_>) -> Decoded<$kind> {
            match source.uint()? {
                $($number => Ok($kind::$variant),)+
                _ => Err(DecodeErrorKind::UnknownName($what)),
            }
        }
    )*};
}

numbered_variants! {
    write_opcode, read_opcode("opcode"): WebSocketOpcode {
        Continuation = 0, Text = 1, Binary = 2, Close = 8, Ping = 9, Pong = 10
    }
    write_inspection_type, read_inspection_type("inspection_type"): GuardrailInspectionType {
        PromptInjection = 0, PiiDetection = 1
    }
}

#[inline]
pub(super) fn write_header_name(name: &str, writer: &mut Writer<'_>) {
    match number_of(name) {
        Some(number) => writer.short_uint(number),
        None => writer.str(name),
    }
}

#[inline]
pub(super) fn read_header_name<'a>(source: &mut Reader<'a>) -> Decoded<&'a str> {
    match number(source)? {
        Some(number) => known(number).map(name_of),
        None => source.str(),
    }
}

/// Writes an address as its bytes, or as text unless the bytes determine the text.
#[inline]
pub(in crate::wire) fn write_address(text: &str, writer: &mut Writer<'_>) {
    match ipv4(text.as_bytes()) {
        Some(octets) => writer.bin(&octets),
        None => write_other_address(text, writer),
    }
}

#[cold]
fn write_other_address(text: &str, writer: &mut Writer<'_>) {
    match text.parse::<Ipv6Addr>() {
        Ok(address) if *IpText::from(address) == *text => writer.bin(&address.octets()),
        _ => writer.str(text),
    }
}

/// Parses an IPv4 address in its only usual form.
#[inline]
fn ipv4(text: &[u8]) -> Option<[u8; 4]> {
    let mut octets = [0; 4];
    let mut rest = text;
    for (at, octet) in octets.iter_mut().enumerate() {
        if at > 0 {
            rest = rest.strip_prefix(b".")?;
        }
        let (number, digits) = match *rest {
            [a @ b'0'..=b'9', b @ b'0'..=b'9', c @ b'0'..=b'9', ..] => {
                (digit(a) * 100 + digit(b) * 10 + digit(c), 3)
            }
            [a @ b'0'..=b'9', b @ b'0'..=b'9', ..] => (digit(a) * 10 + digit(b), 2),
            [a @ b'0'..=b'9', ..] => (digit(a), 1),
            _ => return None,
        };
        if digits > 1 && rest[0] == b'0' {
            return None;
        }
        *octet = u8::try_from(number).ok()?;
        rest = &rest[digits..];
    }
    rest.is_empty().then_some(octets)
}

const fn digit(byte: u8) -> u16 {
    (byte - b'0') as u16
}

/// Reads an address: text, or bytes that are written as text to `text`.
#[inline]
pub(super) fn read_address<'a>(source: &mut Reader<'a>, text: &'a mut IpText) -> Decoded<&'a str> {
    if !source.is_at_bin() {
        return source.str();
    }
    let bytes = source.bin()?;
    let address = if let Ok(octets) = <[u8; 4]>::try_from(bytes) {
        IpAddr::V4(Ipv4Addr::from(octets))
    } else if let Ok(octets) = <[u8; 16]>::try_from(bytes) {
        IpAddr::V6(Ipv6Addr::from(octets))
    } else {
        return Err(DecodeErrorKind::OutOfRange);
    };
    *text = IpText::from(address);
    Ok(text.as_str())
}

/// Writes a point in time as milliseconds since 1970, or as text unless they determine the text.
#[inline]
pub(super) fn write_timestamp(text: &str, writer: &mut Writer<'_>) {
    match Timestamp::ms_of(text) {
        Some(ms) => writer.uint(ms),
        None => writer.str(text),
    }
}

/// Reads a point in time: text, or a number that is written as text to `last`.
#[inline]
pub(super) fn read_timestamp<'a>(
    source: &mut Reader<'a>,
    last: &'a mut LastTimestamp,
) -> Decoded<&'a str> {
    let Some(ms) = number(source)? else {
        return source.str();
    };
    Ok(last.text_of(ms))
}
