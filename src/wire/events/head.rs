//! Request headers and response headers.

use super::Encode;
use crate::protocol::events::{
    Metadata, RequestHeaders, RequestHeadersEvent, ResponseHeaders, ResponseHeadersEvent,
};
use crate::protocol::{EventType, FieldValue, HeaderSource, text};
use crate::wire::decode::{DecodeErrorKind, Field, Source};
use crate::wire::encode::Sink;
#[cfg(feature = "grpc")]
use crate::wire::protobuf;
use crate::wire::views::{Cursor, HeadersView, RequestHeadersView, ResponseHeadersView};

/// The top-level correlation id is last because the array form of the struct does not have it.
const REQUEST_FIELDS: &[&str] = &["metadata", "method", "uri", "headers", "correlation_id"];

const METADATA_FIELDS: &[&str] = &[
    "correlation_id",
    "request_id",
    "client_ip",
    "client_port",
    "server_name",
    "protocol",
    "tls_version",
    "tls_cipher",
    "route_id",
    "upstream_id",
    "timestamp",
    "traceparent",
];

const RESPONSE_FIELDS: &[&str] = &["correlation_id", "status", "headers"];

impl<H: HeaderSource> Encode for RequestHeaders<'_, H> {
    const EVENT_TYPE: EventType = EventType::RequestHeaders;

    fn traceparent(&self) -> Option<&str> {
        self.metadata.traceparent
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

    #[cfg(feature = "grpc")]
    fn encode_protobuf(&self, correlation_id: &str, writer: &mut protobuf::Writer<'_>) {
        protobuf::write_request_headers(self, correlation_id, writer);
    }
}

impl Encode for RequestHeadersEvent {
    const EVENT_TYPE: EventType = EventType::RequestHeaders;

    fn traceparent(&self) -> Option<&str> {
        self.metadata.traceparent.as_deref()
    }

    fn encode<S: Sink>(&self, correlation_id: &str, sink: &mut S) {
        self.borrowed().encode(correlation_id, sink);
    }

    #[cfg(feature = "grpc")]
    fn encode_protobuf(&self, correlation_id: &str, writer: &mut protobuf::Writer<'_>) {
        self.borrowed().encode_protobuf(correlation_id, writer);
    }
}

impl<H: HeaderSource> Encode for ResponseHeaders<'_, H> {
    const EVENT_TYPE: EventType = EventType::ResponseHeaders;

    fn encode<S: Sink>(&self, correlation_id: &str, sink: &mut S) {
        sink.begin_map(3);
        sink.str_field("correlation_id", correlation_id);
        sink.uint_field("status", u64::from(self.status));
        encode_headers(&self.headers, sink);
        sink.end_map();
    }

    #[cfg(feature = "grpc")]
    fn encode_protobuf(&self, correlation_id: &str, writer: &mut protobuf::Writer<'_>) {
        protobuf::write_response_headers(self, correlation_id, writer);
    }
}

impl Encode for ResponseHeadersEvent {
    const EVENT_TYPE: EventType = EventType::ResponseHeaders;

    fn encode<S: Sink>(&self, correlation_id: &str, sink: &mut S) {
        self.borrowed().encode(correlation_id, sink);
    }

    #[cfg(feature = "grpc")]
    fn encode_protobuf(&self, correlation_id: &str, writer: &mut protobuf::Writer<'_>) {
        self.borrowed().encode_protobuf(correlation_id, writer);
    }
}

fn encode_metadata<S: Sink>(metadata: &Metadata<'_>, correlation_id: &str, sink: &mut S) {
    sink.begin_map(11 + usize::from(metadata.traceparent.is_some()));
    sink.str_field("correlation_id", correlation_id);
    sink.str_field("request_id", metadata.request_id);
    sink.str_field("client_ip", metadata.client_ip);
    sink.uint_field("client_port", u64::from(metadata.client_port));
    sink.optional_str_field("server_name", metadata.server_name);
    sink.str_field("protocol", metadata.protocol);
    sink.optional_str_field("tls_version", metadata.tls_version);
    sink.optional_str_field("tls_cipher", metadata.tls_cipher);
    sink.optional_str_field("route_id", metadata.route_id);
    sink.optional_str_field("upstream_id", metadata.upstream_id);
    sink.str_field("timestamp", metadata.timestamp);
    if let Some(traceparent) = metadata.traceparent {
        sink.str_field("traceparent", traceparent);
    }
    sink.end_map();
}

fn encode_headers<S: Sink>(headers: &impl HeaderSource, sink: &mut S) {
    sink.key("headers");
    sink.map_of_at_most(headers.max_names(), |sink| match headers.singles() {
        Some(singles) => encode_singles(singles, sink),
        None => encode_groups(headers, sink),
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
fn encode_groups<S: Sink>(headers: &impl HeaderSource, sink: &mut S) -> usize {
    let mut names = 0;
    for (name, values) in headers.grouped() {
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
) -> Result<RequestHeadersView<'a>, DecodeErrorKind>
where
    S: Source<'a> + Into<Cursor<'a>>,
{
    let mut metadata = Field::new();
    let mut method = Field::new();
    let mut uri = Field::new();
    let mut headers = Field::new();
    let mut correlation_id = Field::new();
    source.fields(REQUEST_FIELDS, |field, source| match field {
        0 => metadata.set(decode_metadata(source)?),
        1 => method.set(source.str()?),
        2 => uri.set(source.str()?),
        3 => headers.set(HeadersView::read(source)?),
        _ => correlation_id.set(source.str()?),
    })?;
    let metadata: Metadata<'a> = metadata.required("metadata")?;
    // The repeated id must be equal; otherwise it is ambiguous which exchange the event belongs to.
    correlation_id.set(metadata.correlation_id)?;
    Ok(RequestHeaders {
        metadata,
        method: method.required("method")?,
        uri: uri.required("uri")?,
        headers: headers.required("headers")?,
    })
}

fn decode_metadata<'a, S: Source<'a>>(source: &mut S) -> Result<Metadata<'a>, DecodeErrorKind> {
    // Text fields are collected in two arrays, in the order in which they are taken apart below.
    let mut required: [Field<&str>; 5] = [const { Field::new() }; 5];
    let mut optional: [Field<Option<&str>>; 6] = [const { Field::new() }; 6];
    let mut client_port = Field::new();
    source.fields(METADATA_FIELDS, |field, source| match field {
        0..=2 => required[field].set(source.str()?),
        3 => client_port.set(source.number()?),
        5 => required[3].set(source.str()?),
        10 => required[4].set(source.str()?),
        4 => optional[0].set(source.optional(S::str)?),
        6..=9 => optional[field - 5].set(source.optional(S::str)?),
        _ => optional[5].set(source.optional(S::str)?),
    })?;
    let [correlation_id, request_id, client_ip, protocol, timestamp] = required;
    let [
        server_name,
        tls_version,
        tls_cipher,
        route_id,
        upstream_id,
        traceparent,
    ] = optional;
    Ok(Metadata {
        correlation_id: correlation_id.required("correlation_id")?,
        request_id: request_id.required("request_id")?,
        client_ip: client_ip.required("client_ip")?,
        client_port: client_port.required("client_port")?,
        server_name: server_name.or_default(),
        protocol: protocol.required("protocol")?,
        tls_version: tls_version.or_default(),
        tls_cipher: tls_cipher.or_default(),
        route_id: route_id.or_default(),
        upstream_id: upstream_id.or_default(),
        timestamp: timestamp.required("timestamp")?,
        traceparent: traceparent.or_default(),
    })
}

/// Decodes response headers.
pub(in crate::wire) fn decode_response_headers<'a, S>(
    source: &mut S,
) -> Result<ResponseHeadersView<'a>, DecodeErrorKind>
where
    S: Source<'a> + Into<Cursor<'a>>,
{
    let mut correlation_id = Field::new();
    let mut status = Field::new();
    let mut headers = Field::new();
    source.fields(RESPONSE_FIELDS, |field, source| match field {
        0 => correlation_id.set(source.str()?),
        1 => status.set(source.number()?),
        _ => headers.set(HeadersView::read(source)?),
    })?;
    Ok(ResponseHeaders {
        correlation_id: correlation_id.required("correlation_id")?,
        status: status.required("status")?,
        headers: headers.required("headers")?,
    })
}
