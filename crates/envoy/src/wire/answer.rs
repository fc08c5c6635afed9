//! `ProcessingResponse`: what Envoy gets over ext_proc, as frames of gRPC.

use super::{BodyMode, Metadata, Writer};
use crate::side::Side;
use bytes::{Bytes, BytesMut};
use http::header::{CONTENT_LENGTH, HOST};
use http::{HeaderName, HeaderValue};
use std::time::Duration;

/// Bytes in front of a message in gRPC: a flag and the length.
const PREFIX: usize = 5;

/// Fields of `ProcessingResponse`.
const IMMEDIATE: u32 = 7;
const METADATA: u32 = 8;
const MODE_OVERRIDE: u32 = 9;
const TIMEOUT: u32 = 10;

/// `HeaderAppendAction`: all values of the name are replaced.
const OVERWRITE: u64 = 2;

/// Answer to one message of Envoy.
#[derive(Debug)]
pub(crate) struct Answer<'a> {
    pub(crate) side: Side,
    pub(crate) change: Option<&'a HeadChange>,
    pub(crate) metadata: Option<&'a Metadata>,
    pub(crate) mode_override: Option<ModeOverride>,
}

/// Change to the header fields of a head.
#[derive(Debug, Default, Clone, PartialEq)]
pub(crate) struct HeadChange {
    /// Names that are removed, before anything is set.
    pub(crate) removed: Vec<HeaderName>,
    /// Fields that are set, each with whether it is added to those of its name.
    pub(crate) set: Vec<(HeaderName, HeaderValue, SetMode)>,
    /// Length of a body that was changed as a whole.
    pub(crate) content_length: Option<usize>,
    /// Lets Envoy choose the route again.
    pub(crate) reroutes: bool,
}

/// Effect of a header on those with its name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum SetMode {
    Replace,
    Append,
}

/// Content with which an answer replaces a chunk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Body {
    Unchanged,
    /// Bytes of this length, which follow the frame.
    Replaced(usize),
    Cleared,
    /// A part of the body in full duplex, whose bytes follow the frame.
    Streamed {
        len: usize,
        is_last: bool,
    },
}

/// Processing modes for the rest of a request. 0 leaves headers and trailers as they are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ModeOverride {
    pub(crate) response_headers: SendMode,
    pub(crate) request_body: BodyMode,
    pub(crate) response_body: BodyMode,
    pub(crate) request_trailers: SendMode,
    pub(crate) response_trailers: SendMode,
}

/// Mode of headers and trailers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum SendMode {
    Unchanged = 0,
    Send = 1,
    Skip = 2,
}

/// A response that Envoy gives the client in place of the upstream's.
#[derive(Debug)]
pub(crate) struct Immediate<'a> {
    pub(crate) response: &'a http::Response<Bytes>,
    /// Reason for access logs.
    pub(crate) details: &'a str,
    pub(crate) metadata: Option<&'a Metadata>,
}

impl Answer<'_> {
    /// Returns the frame that answers headers.
    pub(crate) fn headers(&self, out: &mut BytesMut) -> Bytes {
        const REQUEST: &[u8] = b"\0\0\0\0\x02\x0a\0";
        const RESPONSE: &[u8] = b"\0\0\0\0\x02\x12\0";
        self.plain(REQUEST, RESPONSE).unwrap_or_else(|| {
            let field = self.field(1);
            frame(out, 0, |message| {
                self.write_around(message);
                message.message(field, |headers| self.write_common(headers, Body::Unchanged));
            })
        })
    }

    /// Returns the frame that answers a chunk of a body. The new content has to follow it.
    pub(crate) fn body(&self, body: Body, out: &mut BytesMut) -> Bytes {
        const REQUEST: &[u8] = b"\0\0\0\0\x02\x1a\0";
        const RESPONSE: &[u8] = b"\0\0\0\0\x02\x22\0";
        if body == Body::Unchanged
            && let Some(plain) = self.plain(REQUEST, RESPONSE)
        {
            return plain;
        }
        let field = self.field(3);
        let detached = match body {
            Body::Replaced(len) | Body::Streamed { len, .. } => len,
            Body::Unchanged | Body::Cleared => 0,
        };
        frame(out, detached, |message| {
            self.write_around(message);
            message.message(field, |answer| self.write_common(answer, body));
        })
    }

    /// Returns the frame that answers trailers.
    pub(crate) fn trailers(&self, out: &mut BytesMut) -> Bytes {
        const REQUEST: &[u8] = b"\0\0\0\0\x02\x2a\0";
        const RESPONSE: &[u8] = b"\0\0\0\0\x02\x32\0";
        self.plain(REQUEST, RESPONSE).unwrap_or_else(|| {
            let field = self.field(5);
            frame(out, 0, |message| {
                self.write_around(message);
                message.message(field, |_| {});
            })
        })
    }

    /// Returns the frame of an answer that changes nothing, which is not encoded each time.
    fn plain(&self, request: &'static [u8], response: &'static [u8]) -> Option<Bytes> {
        let is_plain =
            self.change.is_none() && self.metadata.is_none() && self.mode_override.is_none();
        let frame = match self.side {
            Side::Request => request,
            Side::Response => response,
        };
        is_plain.then_some(Bytes::from_static(frame))
    }

    /// Returns the field for this side, from that for requests.
    fn field(&self, of_request: u32) -> u32 {
        match self.side {
            Side::Request => of_request,
            Side::Response => of_request + 1,
        }
    }

    /// Writes the fields beside the answer itself, which comes last.
    fn write_around(&self, message: &mut Writer<'_>) {
        write_metadata(message, self.metadata);
        if let Some(modes) = self.mode_override {
            message.message(MODE_OVERRIDE, |fields| modes.write(fields));
        }
    }

    /// Writes a `CommonResponse`.
    fn write_common(&self, out: &mut Writer<'_>, body: Body) {
        if self.change.is_none() && body == Body::Unchanged {
            return;
        }
        out.message(1, |common| {
            if let Some(change) = self.change {
                common.message(2, |mutation| change.write(mutation));
                if change.reroutes {
                    common.number(5, 1);
                }
            }
            if body != Body::Unchanged {
                common.message(3, |mutation| body.write(mutation));
            }
        });
    }
}

impl HeadChange {
    pub(crate) fn is_empty(&self) -> bool {
        self.removed.is_empty() && self.set.is_empty() && self.content_length.is_none()
    }

    /// Writes a `HeaderMutation`.
    fn write(&self, out: &mut Writer<'_>) {
        for (name, value, mode) in &self.set {
            write_header(out, 1, name.as_str(), value.as_bytes(), *mode);
        }
        if let Some(length) = self.content_length {
            let length = HeaderValue::from(length);
            write_header(
                out,
                1,
                "content-length",
                length.as_bytes(),
                SetMode::Replace,
            );
        }
        for name in &self.removed {
            out.str(2, name.as_str());
        }
    }
}

impl Body {
    /// Writes a `BodyMutation`.
    fn write(self, out: &mut Writer<'_>) {
        match self {
            Self::Unchanged => {}
            Self::Replaced(len) => out.detached_bytes(1, len),
            Self::Cleared => out.number(2, 1),
            Self::Streamed { len, is_last } => out.message(3, |streamed| {
                if is_last {
                    streamed.number(2, 1);
                }
                if len > 0 {
                    streamed.detached_bytes(1, len);
                }
            }),
        }
    }
}

impl ModeOverride {
    fn write(self, out: &mut Writer<'_>) {
        for (field, mode) in [
            (2, self.response_headers as u64),
            (3, self.request_body as u64),
            (4, self.response_body as u64),
            (5, self.request_trailers as u64),
            (6, self.response_trailers as u64),
        ] {
            if mode != 0 {
                out.number(field, mode);
            }
        }
    }
}

impl Immediate<'_> {
    /// Returns the frame, which the body of the response has to follow.
    pub(crate) fn frame(&self, out: &mut BytesMut) -> Bytes {
        let body = self.response.body().len();
        frame(out, body, |message| {
            write_metadata(message, self.metadata);
            message.message(IMMEDIATE, |immediate| self.write(immediate));
        })
    }

    fn write(&self, out: &mut Writer<'_>) {
        out.message(1, |status| {
            status.number(1, u64::from(self.response.status().as_u16()));
        });
        if !self.response.headers().is_empty() {
            out.message(2, |mutation| self.write_headers(mutation));
        }
        if !self.details.is_empty() {
            out.str(5, self.details);
        }
        if !self.response.body().is_empty() {
            out.detached_bytes(3, self.response.body().len());
        }
    }

    /// Writes the headers, but for the length, which Envoy writes, and those of Envoy's own, which
    /// it refuses together with all that follow.
    fn write_headers(&self, out: &mut Writer<'_>) {
        let headers = self.response.headers();
        for name in headers.keys() {
            if *name == CONTENT_LENGTH || *name == HOST || name.as_str().starts_with("x-envoy-") {
                continue;
            }
            let mut mode = SetMode::Replace;
            for value in headers.get_all(name) {
                write_header(out, 1, name.as_str(), value.as_bytes(), mode);
                mode = SetMode::Append;
            }
        }
    }
}

/// Returns the frame that asks Envoy to wait longer for the answer to its last message.
pub(crate) fn more_time(time: Duration, out: &mut BytesMut) -> Bytes {
    frame(out, 0, |message| {
        message.message(TIMEOUT, |duration| {
            duration.number(1, time.as_secs());
            duration.number(2, u64::from(time.subsec_nanos()));
        });
    })
}

/// Writes a `HeaderValueOption`. Envoy reads `append` and other data planes read `append_action`.
pub(crate) fn write_header(
    out: &mut Writer<'_>,
    field: u32,
    name: &str,
    value: &[u8],
    mode: SetMode,
) {
    out.message(field, |option| {
        option.message(1, |header| {
            header.str(1, name);
            header.bytes(3, value);
        });
        match mode {
            SetMode::Replace => {
                option.message(2, |_| {});
                option.number(3, OVERWRITE);
            }
            SetMode::Append => option.message(2, |append| append.number(1, 1)),
        }
    });
}

fn write_metadata(out: &mut Writer<'_>, metadata: Option<&Metadata>) {
    if let Some(metadata) = metadata {
        out.message(METADATA, |fields| metadata.write(fields));
    }
}

/// Writes a message with its prefix. `detached` bytes have to follow it.
pub(crate) fn frame(
    out: &mut BytesMut,
    detached: usize,
    write: impl FnOnce(&mut Writer<'_>),
) -> Bytes {
    out.clear();
    out.extend_from_slice(&[0; PREFIX]);
    write(&mut Writer::new(out));
    let len = out.len() - PREFIX + detached;
    // Answers are far shorter: they are bounded like the messages they answer.
    let len = u32::try_from(len).unwrap_or(u32::MAX);
    out[1..PREFIX].copy_from_slice(&len.to_be_bytes());
    out.split().freeze()
}
