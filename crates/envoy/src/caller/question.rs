//! Messages of Envoy.

use super::Kind;
use crate::wire::{Writer, frame};
use bytes::{Bytes, BytesMut};

/// `BodySendMode`: chunks are sent as they arrive.
const STREAMED: u64 = 1;

impl Kind {
    /// Returns the field of `ProcessingRequest`.
    fn field(self) -> u32 {
        match self {
            Self::RequestHeaders => 2,
            Self::ResponseHeaders => 3,
            Self::RequestBody => 4,
            Self::ResponseBody => 5,
            Self::RequestTrailers => 6,
            Self::ResponseTrailers => 7,
        }
    }
}

pub(super) fn head_frame(
    kind: Kind,
    head: &[(&str, &str)],
    end_of_stream: bool,
    is_first: bool,
) -> Bytes {
    frame(&mut BytesMut::new(), 0, |message| {
        message.message(kind.field(), |headers| {
            headers.message(1, |map| write_fields(map, head));
            if end_of_stream {
                headers.number(3, 1);
            }
        });
        if is_first {
            message.message(9, |entry| {
                entry.str(1, "envoy.filters.http.ext_proc");
                entry.message(2, |attributes| {
                    attributes.message(1, |field| {
                        field.str(1, "source.address");
                        field.message(2, |value| value.str(3, "127.0.0.1:0"));
                    });
                });
            });
            message.message(11, |modes| {
                modes.number(1, STREAMED);
                modes.number(2, STREAMED);
            });
        }
    })
}

pub(super) fn body_frame(kind: Kind, data: &[u8], end_of_stream: bool) -> Bytes {
    frame(&mut BytesMut::new(), 0, |message| {
        message.message(kind.field(), |body| {
            if !data.is_empty() {
                body.bytes(1, data);
            }
            if end_of_stream {
                body.number(2, 1);
            }
        });
    })
}

pub(super) fn trailers_frame(kind: Kind, trailers: &[(&str, &str)]) -> Bytes {
    frame(&mut BytesMut::new(), 0, |message| {
        message.message(kind.field(), |fields| {
            fields.message(1, |map| write_fields(map, trailers));
        });
    })
}

/// Writes a `HeaderMap`.
fn write_fields(map: &mut Writer<'_>, fields: &[(&str, &str)]) {
    for (name, value) in fields {
        map.message(1, |header| {
            header.str(1, name);
            header.str(3, value);
        });
    }
}
