//! Request headers and response headers.

use super::tables::encode_metadata;
use super::{Encode, EventTarget};
use crate::protocol::events::{
    Metadata, RequestHeaders, RequestHeadersEvent, ResponseHeaders, ResponseHeadersEvent,
};
use crate::protocol::headers::group;
use crate::protocol::{EventType, FieldValue, HeaderSource, text};
use crate::wire::borrowed_headers::BorrowedHeaders;
use crate::wire::decode::{DecodeErrorKind, Decoded, Source};
use crate::wire::encode::Sink;
use crate::wire::fields::{read_fields, read_struct};
use crate::wire::incoming_event::IncomingEvent;
#[cfg(feature = "grpc")]
use crate::wire::protobuf;
use crate::wire::views::{Cursor, HeadersView, RequestHeadersView, ResponseHeadersView};
use crate::wire::{compact, msgpack};

impl<H: HeaderSource> Encode for RequestHeaders<'_, H> {
    const EVENT_TYPE: EventType = EventType::RequestHeaders;

    fn traceparent(&self) -> Option<&str> {
        self.metadata.traceparent
    }

    fn headers<'e>(&'e self, headers: &mut BorrowedHeaders<'e>) {
        headers.extend(&self.headers);
    }

    fn view<'v>(&'v self, correlation_id: &'v str, headers: HeadersView<'v>) -> IncomingEvent<'v> {
        view_request(self, correlation_id, headers)
    }

    fn encode<S: Sink>(&self, correlation_id: &str, sink: &mut S) {
        sink.begin_map(4 + usize::from(S::REPEATS_CORRELATION_ID));
        if S::REPEATS_CORRELATION_ID {
            sink.str_field("correlation_id", correlation_id);
        }
        sink.key("metadata");
        encode_metadata(&self.metadata, correlation_id, sink);
        sink.str_field("method", self.method);
        sink.str_field("uri", self.uri);
        encode_headers(&self.headers, sink);
        sink.end_map();
    }

    fn encode_compact(&self, target: &EventTarget<'_>, writer: &mut msgpack::Writer<'_>) {
        compact::write_request_headers(self, target, writer);
    }

    #[cfg(feature = "grpc")]
    fn encode_protobuf(&self, correlation_id: &str, writer: &mut protobuf::Writer<'_>) {
        protobuf::write_request_headers(self, correlation_id, writer);
    }
}

impl<H: HeaderSource> Encode for ResponseHeaders<'_, H> {
    const EVENT_TYPE: EventType = EventType::ResponseHeaders;

    fn headers<'e>(&'e self, headers: &mut BorrowedHeaders<'e>) {
        headers.extend(&self.headers);
    }

    fn view<'v>(&'v self, correlation_id: &'v str, headers: HeadersView<'v>) -> IncomingEvent<'v> {
        view_response(self, correlation_id, headers)
    }

    fn encode<S: Sink>(&self, correlation_id: &str, sink: &mut S) {
        sink.begin_map(3);
        sink.str_field("correlation_id", correlation_id);
        sink.uint_field("status", u64::from(self.status));
        encode_headers(&self.headers, sink);
        sink.end_map();
    }

    fn encode_compact(&self, target: &EventTarget<'_>, writer: &mut msgpack::Writer<'_>) {
        compact::write_response_headers(self, target, writer);
    }

    #[cfg(feature = "grpc")]
    fn encode_protobuf(&self, correlation_id: &str, writer: &mut protobuf::Writer<'_>) {
        protobuf::write_response_headers(self, correlation_id, writer);
    }
}

/// Implements [`Encode`] for owned heads, which are encoded as their borrowed forms.
macro_rules! owned_heads {
    ($($form:ty: $event:ident by $view:ident, |$this:ident| $traceparent:expr;)*) => {$(
        impl Encode for $form {
            const EVENT_TYPE: EventType = EventType::$event;

            fn traceparent(&self) -> Option<&str> {
                let $this = self;
                $traceparent
            }

            fn headers<'e>(&'e self, headers: &mut BorrowedHeaders<'e>) {
                headers.extend(&self.headers);
            }

            fn view<'v>(
                &'v self,
                correlation_id: &'v str,
                headers: HeadersView<'v>,
            ) -> IncomingEvent<'v> {
                $view(&self.borrowed(), correlation_id, headers)
            }

            fn encode<S: Sink>(&self, correlation_id: &str, sink: &mut S) {
                self.borrowed().encode(correlation_id, sink);
            }

            fn encode_compact(&self, target: &EventTarget<'_>, writer: &mut msgpack::Writer<'_>) {
                self.borrowed().encode_compact(target, writer);
            }

            #[cfg(feature = "grpc")]
            fn encode_protobuf(&self, correlation_id: &str, writer: &mut protobuf::Writer<'_>) {
                self.borrowed().encode_protobuf(correlation_id, writer);
            }
        }
    )*};
}

owned_heads! {
    RequestHeadersEvent: RequestHeaders by view_request, |event|
        event.metadata.traceparent.as_deref();
    ResponseHeadersEvent: ResponseHeaders by view_response, |_event| None;
}

fn view_request<'v, H>(
    head: &RequestHeaders<'v, H>,
    correlation_id: &'v str,
    headers: HeadersView<'v>,
) -> IncomingEvent<'v> {
    IncomingEvent::RequestHeaders(RequestHeaders {
        metadata: Metadata {
            correlation_id,
            ..head.metadata
        },
        method: head.method,
        uri: head.uri,
        headers,
    })
}

fn view_response<'v, H>(
    head: &ResponseHeaders<'_, H>,
    correlation_id: &'v str,
    headers: HeadersView<'v>,
) -> IncomingEvent<'v> {
    IncomingEvent::ResponseHeaders(ResponseHeaders {
        correlation_id,
        status: head.status,
        headers,
    })
}

fn encode_headers<S: Sink>(headers: &impl HeaderSource, sink: &mut S) {
    sink.key("headers");
    sink.map_of_at_most(headers.max_names(), |sink| {
        if let Some(singles) = headers.singles() {
            return encode_singles(singles, sink);
        }
        match headers.ungrouped() {
            Some(headers) => {
                let groups = group(headers);
                let groups = groups.iter();
                encode_groups(
                    groups.map(|(name, values)| (*name, values.iter().copied())),
                    sink,
                )
            }
            None => encode_groups(headers.grouped(), sink),
        }
    });
}

/// Writes headers that have one value each, and returns the number of names.
fn encode_singles<'h, S: Sink>(
    singles: impl Iterator<Item = (&'h str, FieldValue<'h>)>,
    sink: &mut S,
) -> usize {
    let mut names = 0;
    for (name, value) in singles {
        names += 1;
        sink.key(name);
        sink.begin_array(1);
        write_value(value, sink);
        sink.end_array();
    }
    names
}

/// Writes headers grouped by name, and returns the number of names.
fn encode_groups<'h, S: Sink>(
    groups: impl Iterator<Item = (&'h str, impl IntoIterator<Item = FieldValue<'h>> + Clone)>,
    sink: &mut S,
) -> usize {
    let mut names = 0;
    for (name, values) in groups {
        names += 1;
        sink.key(name);
        let counted = values.clone();
        let values = values.into_iter();
        sink.begin_array(exact_len(&values).unwrap_or_else(|| counted.into_iter().count()));
        for value in values {
            write_value(value, sink);
        }
        sink.end_array();
    }
    names
}

/// Returns the number of items if the iterator's size hint is exact.
fn exact_len(items: &impl Iterator) -> Option<usize> {
    let (lower, upper) = items.size_hint();
    upper.filter(|upper| *upper == lower)
}

#[inline]
fn write_value<S: Sink>(value: FieldValue<'_>, sink: &mut S) {
    match value {
        FieldValue::Text(text) => sink.str(text),
        FieldValue::Bytes(bytes) => match text::from_utf8(bytes) {
            Ok(text) => sink.str(text),
            Err(_) => sink.str(&value.to_text()),
        },
    }
}

/// Decodes request headers.
pub(in crate::wire) fn decode_request_headers<'a, S>(
    source: &mut S,
) -> Decoded<RequestHeadersView<'a>>
where
    S: Source<'a> + Into<Cursor<'a>>,
{
    // The repeated id is last because the array form does not have it.
    read_fields!(source =>
        metadata,
        method,
        uri,
        headers by HeadersView::read,
        correlation_id [default] by optional_id,
    );
    let metadata: Metadata<'a> = metadata;
    // The repeated id must be equal; otherwise it is ambiguous which exchange the event belongs to.
    if correlation_id.is_some_and(|id| id != metadata.correlation_id) {
        return Err(DecodeErrorKind::Contradiction);
    }
    Ok(RequestHeaders {
        metadata,
        method,
        uri,
        headers,
    })
}

fn optional_id<'a, S: Source<'a>>(source: &mut S) -> Decoded<Option<&'a str>> {
    source.str().map(Some)
}

/// Decodes response headers.
pub(in crate::wire) fn decode_response_headers<'a, S>(
    source: &mut S,
) -> Decoded<ResponseHeadersView<'a>>
where
    S: Source<'a> + Into<Cursor<'a>>,
{
    read_struct!(source => ResponseHeaders {
        correlation_id, status, headers by HeadersView::read
    })
}
