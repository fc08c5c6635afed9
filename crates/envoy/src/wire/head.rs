//! Heads of requests and responses, from Envoy's `HeaderMap`.

use super::{Fields, Malformed};
use smallvec::SmallVec;
use std::borrow::Cow;
use std::net::SocketAddr;
use tollgate::headers::FieldValue;

/// Header fields of a head. A value that is not UTF-8 is converted as the agent protocol does it.
pub(crate) type Pairs<'a> = SmallVec<[(&'a str, Cow<'a, str>); 20]>;

/// The head of a request or response, borrowed.
#[derive(Debug, Default)]
pub(crate) struct Head<'a> {
    pub(crate) method: Cow<'a, str>,
    pub(crate) path: Cow<'a, str>,
    /// Final status of a response; 0 if there is none.
    pub(crate) status: u16,
    /// Header fields, without pseudo-headers. `:authority` is `host` if there is no `host`.
    pub(crate) fields: Pairs<'a>,
}

impl<'a> Head<'a> {
    /// Reads a `HeaderMap`.
    pub(crate) fn read(map: &'a [u8]) -> Result<Self, Malformed> {
        let mut head = Self::default();
        let mut authority = None;
        Fields::of(map).each(|field, value| {
            if field == 1 {
                let (name, value) = read_header(value.bytes()?)?;
                head.take(name, value, &mut authority);
            }
            Ok(())
        })?;
        head.name_host(authority);
        Ok(head)
    }

    /// Takes one header.
    pub(crate) fn take(
        &mut self,
        name: &'a str,
        value: Cow<'a, str>,
        authority: &mut Option<Cow<'a, str>>,
    ) {
        if !name.starts_with(':') {
            self.fields.push((name, value));
            return;
        }
        match name {
            ":method" => self.method = value,
            ":path" => self.path = value,
            ":authority" => *authority = Some(value),
            ":status" => self.status = value.parse().unwrap_or(0),
            _ => {}
        }
    }

    /// Adds `:authority` as `host` if there is no `host`.
    pub(crate) fn name_host(&mut self, authority: Option<Cow<'a, str>>) {
        if self.path.is_empty()
            && self.method == "CONNECT"
            && let Some(authority) = &authority
        {
            self.path = authority.clone();
        }
        if self.field("host").is_none()
            && let Some(authority) = authority
        {
            self.fields.push(("host", authority));
        }
    }

    /// Returns the first value of a header, whose name is lower-case.
    pub(crate) fn field(&self, name: &str) -> Option<&str> {
        let mut fields = self.fields.iter();
        let found = fields.find(|(own, _)| own.eq_ignore_ascii_case(name));
        found.map(|(_, value)| &**value)
    }

    /// Returns the `content-length`; `None` if there is none, or one that is no number.
    pub(crate) fn content_length(&self) -> Option<usize> {
        self.field("content-length")?.trim().parse().ok()
    }

    /// Returns whether the head says that a body follows.
    pub(crate) fn announces_body(&self) -> bool {
        let length = self.field("content-length");
        length.is_some_and(|length| length.trim() != "0")
            || self.field("transfer-encoding").is_some()
    }

    /// Returns whether the connection may become a tunnel, whose bytes are no body.
    pub(crate) fn asks_for_tunnel(&self) -> bool {
        self.method == "CONNECT" || self.field("upgrade").is_some()
    }

    /// Returns whether the other side may wait for this head before the body goes on.
    pub(crate) fn is_of_stream(&self) -> bool {
        let content = self.field("content-type").unwrap_or_default();
        ["application/grpc", "text/event-stream"]
            .iter()
            .any(|kind| content.starts_with(kind))
    }
}

/// Reads a `HeaderValue`. Envoy writes `raw_value`; `value` is read for others.
pub(crate) fn read_header(message: &[u8]) -> Result<(&str, Cow<'_, str>), Malformed> {
    let (mut key, mut text, mut raw) = ("", "", &[][..]);
    Fields::of(message).each(|field, value| {
        match field {
            1 => key = value.str()?,
            2 => text = value.str()?,
            3 => raw = value.bytes()?,
            _ => {}
        }
        Ok(())
    })?;
    if raw.is_empty() {
        return Ok((key, Cow::Borrowed(text)));
    }
    Ok((key, FieldValue::Bytes(raw).to_text()))
}

/// Reads an address with a port, such as `source.address` has.
pub(crate) fn parse_socket_address(text: &str) -> Option<SocketAddr> {
    let address: SocketAddr = text.parse().ok()?;
    Some(SocketAddr::new(address.ip().to_canonical(), address.port()))
}
