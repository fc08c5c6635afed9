//! `CheckRequest` and `CheckResponse`: the messages of ext_authz.

use super::head::Head;
use super::{Fields, HeadChange, Malformed, Metadata, SetMode, Writer, frame};
use bytes::{Bytes, BytesMut};
use std::borrow::Cow;
use tollgate::headers::FieldValue;

/// gRPC codes with which requests are denied.
const PERMISSION_DENIED: u64 = 7;
const INTERNAL: u64 = 13;

/// A request that Envoy asks about, borrowed.
#[derive(Debug, Default)]
pub(crate) struct CheckRequest<'a> {
    pub(crate) head: Head<'a>,
    pub(crate) source_address: &'a str,
    pub(crate) source_port: u16,
    pub(crate) protocol: &'a str,
    pub(crate) server_name: Option<&'a str>,
    pub(crate) body: &'a [u8],
}

impl<'a> CheckRequest<'a> {
    /// Reads a message. Fields that are not known are passed over.
    pub(crate) fn read(message: &'a [u8]) -> Result<Self, Malformed> {
        let mut check = Self::default();
        Fields::of(message).each(|field, value| match field {
            1 => check.read_attributes(value.bytes()?),
            _ => Ok(()),
        })?;
        if check.head.method.is_empty() {
            return Err(Malformed::NoPhase);
        }
        Ok(check)
    }

    fn read_attributes(&mut self, message: &'a [u8]) -> Result<(), Malformed> {
        Fields::of(message).each(|field, value| match field {
            1 => self.read_source(value.bytes()?),
            4 => nested(value.bytes()?, 2, |http| self.read_http(http)),
            12 => Fields::of(value.bytes()?).each(|field, value| {
                if field == 1 {
                    let name = value.str()?;
                    self.server_name = (!name.is_empty()).then_some(name);
                }
                Ok(())
            }),
            _ => Ok(()),
        })
    }

    fn read_source(&mut self, peer: &'a [u8]) -> Result<(), Malformed> {
        nested(peer, 1, |address| {
            nested(address, 1, |socket| {
                Fields::of(socket).each(|field, value| {
                    match field {
                        2 => self.source_address = value.str()?,
                        3 => self.source_port = u16::try_from(value.number()?).unwrap_or(0),
                        _ => {}
                    }
                    Ok(())
                })
            })
        })
    }

    fn read_http(&mut self, message: &'a [u8]) -> Result<(), Malformed> {
        let (mut method, mut path, mut host) = ("", "", "");
        let mut authority = None;
        Fields::of(message).each(|field, value| {
            match field {
                2 => method = value.str()?,
                3 => {
                    let (name, text) = read_entry(value.bytes()?)?;
                    self.head.take(name, Cow::Borrowed(text), &mut authority);
                }
                4 => path = value.str()?,
                5 => host = value.str()?,
                10 => self.protocol = value.str()?,
                11 | 12 => {
                    let body = value.bytes()?;
                    if !body.is_empty() {
                        self.body = body;
                    }
                }
                13 => {
                    let map = Head::read(value.bytes()?)?;
                    self.head.fields.extend(map.fields);
                }
                _ => {}
            }
            Ok(())
        })?;
        self.head.method = Cow::Borrowed(method);
        self.head.path = Cow::Borrowed(path);
        let host = (!host.is_empty()).then_some(Cow::Borrowed(host));
        self.head.name_host(host.or(authority));
        Ok(())
    }

    /// Returns whether the body was cut at Envoy's limit, or not shown at all.
    pub(crate) fn is_partial(&self) -> bool {
        let is_cut = self.head.field("x-envoy-auth-partial-body") == Some("true");
        is_cut || (self.body.is_empty() && (self.head.announces_body() || self.may_have_body()))
    }

    /// Returns whether a body may follow that nothing announces. Envoy removes
    /// `transfer-encoding`, and HTTP/2 has none.
    fn may_have_body(&self) -> bool {
        self.head.field("content-length").is_none()
            && !matches!(&*self.head.method, "GET" | "HEAD" | "OPTIONS")
    }
}

/// Calls `read` with each message in a field.
fn nested<'a>(
    message: &'a [u8],
    number: u32,
    mut read: impl FnMut(&'a [u8]) -> Result<(), Malformed>,
) -> Result<(), Malformed> {
    Fields::of(message).each(|field, value| match field {
        _ if field == number => read(value.bytes()?),
        _ => Ok(()),
    })
}

fn read_entry(message: &[u8]) -> Result<(&str, &str), Malformed> {
    let (mut key, mut text) = ("", "");
    Fields::of(message).each(|field, value| {
        match field {
            1 => key = value.str()?,
            2 => text = value.str()?,
            _ => {}
        }
        Ok(())
    })?;
    Ok((key, text))
}

/// Answer to a check.
#[derive(Debug)]
pub(crate) enum CheckAnswer<'a> {
    /// The request goes on with these changes.
    Allow {
        request: &'a HeadChange,
        response: &'a HeadChange,
    },
    /// The client gets this response.
    Deny(&'a http::Response<Bytes>),
    /// The agent failed, and the request with it.
    Fail(&'a http::Response<Bytes>),
}

impl CheckAnswer<'_> {
    /// Returns the frame of the answer.
    pub(crate) fn frame(&self, metadata: Option<&Metadata>, out: &mut BytesMut) -> Bytes {
        frame(out, 0, |message| {
            // Envoy allows if there is no code, whatever follows.
            let code = match self {
                Self::Allow { .. } => 0,
                Self::Deny(_) => PERMISSION_DENIED,
                Self::Fail(_) => INTERNAL,
            };
            message.message(1, |status| status.number(1, code));
            match self {
                Self::Allow { request, response } => {
                    message.message(3, |ok| write_ok(ok, request, response));
                }
                Self::Deny(response) => message.message(2, |denied| write_denied(denied, response)),
                Self::Fail(response) => message.message(5, |failed| write_denied(failed, response)),
            }
            if let Some(metadata) = metadata {
                message.message(4, |fields| metadata.write(fields));
            }
        })
    }
}

/// Writes an `OkHttpResponse`.
fn write_ok(out: &mut Writer<'_>, request: &HeadChange, response: &HeadChange) {
    for (name, value, mode) in &request.set {
        write_value(out, 2, name.as_str(), value.as_bytes(), Some(*mode));
    }
    for name in &request.removed {
        out.str(5, name.as_str());
    }
    for (name, value, mode) in &response.set {
        write_value(out, 6, name.as_str(), value.as_bytes(), Some(*mode));
    }
}

/// Writes a `DeniedHttpResponse`. Two headers of one name both go out as long as `append` is not
/// set.
fn write_denied(out: &mut Writer<'_>, response: &http::Response<Bytes>) {
    out.message(1, |status| {
        status.number(1, u64::from(response.status().as_u16()));
    });
    for (name, value) in response.headers() {
        if *name != http::header::CONTENT_LENGTH {
            write_value(out, 2, name.as_str(), value.as_bytes(), None);
        }
    }
    if !response.body().is_empty() {
        out.bytes(3, response.body());
    }
}

/// Writes a `HeaderValueOption`. Unlike with ext_proc, Envoy reads `value` and not `raw_value`. It
/// has to be UTF-8.
fn write_value(out: &mut Writer<'_>, field: u32, name: &str, value: &[u8], mode: Option<SetMode>) {
    out.message(field, |option| {
        option.message(1, |header| {
            header.str(1, name);
            header.str(2, &FieldValue::Bytes(value).to_text());
        });
        match mode {
            Some(SetMode::Replace) => {
                option.message(2, |_| {});
                option.number(3, 2);
            }
            Some(SetMode::Append) => option.message(2, |append| append.number(1, 1)),
            None => {}
        }
    });
}
