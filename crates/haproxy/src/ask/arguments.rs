//! The arguments of a message, by name.

use super::fault::Fault;
use super::headers::HeaderList;
use crate::wire::{Arguments, Malformed, Value};
use std::net::IpAddr;

/// The facts that a message tells. Missing arguments and those without a value are absent.
#[derive(Default)]
pub(super) struct Known<'a> {
    pub(super) id: Option<&'a [u8]>,
    pub(super) client: Option<IpAddr>,
    pub(super) client_port: Option<u16>,
    pub(super) method: Option<&'a [u8]>,
    pub(super) path: Option<&'a [u8]>,
    pub(super) query: Option<&'a [u8]>,
    pub(super) url: Option<&'a [u8]>,
    /// HTTP version, such as `1.1`.
    pub(super) version: Option<&'a [u8]>,
    pub(super) server_name: Option<&'a [u8]>,
    pub(super) tls_version: Option<&'a [u8]>,
    pub(super) tls_cipher: Option<&'a [u8]>,
    pub(super) frontend: Option<&'a [u8]>,
    pub(super) backend: Option<&'a [u8]>,
    pub(super) status: Option<u16>,
    pub(super) headers: Option<HeaderList<'a>>,
    pub(super) body: Option<&'a [u8]>,
    pub(super) body_len: Option<u64>,
    pub(super) body_size: Option<u64>,
    /// Changes to the response's headers that the agent asked for with the request.
    pub(super) earlier: EarlierChanges<'a>,
}

/// Header lists that an earlier answer has set.
#[derive(Debug, Default, Clone, Copy)]
pub(crate) struct EarlierChanges<'a> {
    pub(crate) del: Option<&'a [u8]>,
    pub(crate) set: Option<&'a [u8]>,
    pub(crate) add: Option<&'a [u8]>,
}

impl<'a> Known<'a> {
    /// Reads all arguments of a message.
    ///
    /// The inner error is an argument that is not valid, with which the next message can be read.
    pub(super) fn read(
        arguments: &mut Arguments<'_, 'a>,
    ) -> Result<Result<Self, Fault>, Malformed> {
        let mut known = Self::default();
        let mut fault = None;
        while let Some(argument) = arguments.read_next()? {
            if let Err(invalid) = known.take(argument.name, argument.value) {
                fault = Some(invalid);
            }
        }
        Ok(fault.map_or(Ok(known), Err))
    }

    fn take(&mut self, name: &[u8], value: Value<'a>) -> Result<(), Fault> {
        match name {
            b"id" => set(&mut self.id, value, text),
            b"src-ip" | b"src" => set(&mut self.client, value, address),
            b"src-port" => set(&mut self.client_port, value, number),
            b"method" => set(&mut self.method, value, text),
            b"path" => set(&mut self.path, value, text),
            b"query" => set(&mut self.query, value, text),
            b"url" => set(&mut self.url, value, text),
            b"version" => set(&mut self.version, value, text),
            b"sni" => set(&mut self.server_name, value, text),
            b"tls-version" => set(&mut self.tls_version, value, text),
            b"tls-cipher" => set(&mut self.tls_cipher, value, text),
            b"frontend" => set(&mut self.frontend, value, text),
            b"backend" => set(&mut self.backend, value, text),
            b"status" => set(&mut self.status, value, number),
            b"headers" => set(&mut self.headers, value, headers),
            b"body" => set(&mut self.body, value, Value::as_bytes),
            b"body-len" => set(&mut self.body_len, value, number),
            b"body-size" => set(&mut self.body_size, value, number),
            b"res-del" => set(&mut self.earlier.del, value, Value::as_bytes),
            b"res-set" => set(&mut self.earlier.set, value, Value::as_bytes),
            b"res-add" => set(&mut self.earlier.add, value, Value::as_bytes),
            _ => Ok(()),
        }
    }
}

/// Sets what an argument says, unless it has no value.
#[inline]
fn set<'a, T>(
    place: &mut Option<T>,
    value: Value<'a>,
    convert: impl FnOnce(Value<'a>) -> Option<T>,
) -> Result<(), Fault> {
    if value == Value::Null {
        return Ok(());
    }
    // Of two values it is not known which one the agent has to judge.
    if place.is_some() {
        return Err(Fault::InvalidArgument);
    }
    *place = Some(convert(value).ok_or(Fault::InvalidArgument)?);
    Ok(())
}

fn text(value: Value<'_>) -> Option<&[u8]> {
    match value {
        Value::String(text) => Some(text),
        _ => None,
    }
}

fn number<N: TryFrom<i64>>(value: Value<'_>) -> Option<N> {
    N::try_from(value.as_number()?).ok()
}

fn address(value: Value<'_>) -> Option<IpAddr> {
    if let Some(address) = value.as_address() {
        return Some(address);
    }
    std::str::from_utf8(text(value)?).ok()?.parse().ok()
}

fn headers(value: Value<'_>) -> Option<HeaderList<'_>> {
    match value {
        Value::Binary(list) => HeaderList::of_binary(list).ok(),
        Value::String(text) => HeaderList::of_text(text).ok(),
        _ => None,
    }
}
