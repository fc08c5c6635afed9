//! Events, written from and read to their borrowed forms.

use super::headers::{read_headers, write_headers};
use super::items::{Items, begin_event};
use super::numbers::{
    read_address, read_inspection_type, read_method, read_opcode, read_protocol, read_timestamp,
    read_tls_version, write_address, write_method, write_protocol, write_timestamp,
    write_tls_version,
};
use crate::protocol::events::{
    BodyChunk, Configure, GuardrailInspect, Metadata, RequestComplete, RequestHeaders,
    ResponseHeaders, WebSocketFrame, guardrail_inspect, request_complete, websocket_frame,
};
use crate::protocol::{EventType, HeaderSource};
use crate::wire::decode::{DecodeError, DecodeErrorKind, Decoded, Source, is_new};
use crate::wire::encode::Sink;
use crate::wire::events::EventTarget;
use crate::wire::fields::{ReadField, WriteField};
use crate::wire::incoming_event::IncomingEvent;
use crate::wire::msgpack::{Reader, Writer};
use crate::wire::recover_id::Undecodable;
use crate::wire::scratch::EventScratch;
use crate::wire::value;
use crate::wire::views::{HeadersView, RequestHeadersView, ResponseHeadersView};
use bytes::Bytes;
use std::time::Duration;

/// Number of items of a request head behind those of every event, without the optional fields.
const REQUEST_ITEMS: usize = 8;

/// Writes and reads the optional fields of a request head: a map from their numbers.
macro_rules! optional_fields {
    ($($field:ident = $number:literal,)+) => {
        /// Returns how many optional fields are set.
        #[inline]
        fn count_fields(metadata: &Metadata<'_>) -> usize {
            0 $(+ usize::from(metadata.$field.is_some()))+
        }

        #[inline]
        fn write_fields(metadata: &Metadata<'_>, fields: usize, writer: &mut Writer<'_>) {
            writer.begin_map(fields);
            $(if let Some(value) = metadata.$field {
                writer.short_uint($number);
                write_optional!($field, value, writer);
            })+
        }

        /// Reads the optional fields. Those that this version does not know are skipped.
        ///
        /// They usually come in the order of their numbers. Then none of them is a repetition.
        #[inline]
        fn read_fields<'a>(source: &mut Reader<'a>, metadata: &mut Metadata<'a>) -> Decoded<()> {
            let mut left = source.map()?;
            $(if left > 0 && source.skip_short_uint($number) {
                metadata.$field = Some(read_optional!($field, source)?);
                left -= 1;
            })+
            if left > 0 {
                return read_unordered(left, source, metadata);
            }
            Ok(())
        }

        #[cold]
        fn read_unordered<'a>(
            fields: usize,
            source: &mut Reader<'a>,
            metadata: &mut Metadata<'a>,
        ) -> Decoded<()> {
            for _ in 0..fields {
                match source.uint()? {
                    $($number => set(&mut metadata.$field, read_optional!($field, source)?)?,)+
                    _ => source.skip()?,
                }
            }
            Ok(())
        }
    };
}

macro_rules! write_optional {
    (tls_version, $value:expr, $writer:expr) => {
        write_tls_version($value, $writer)
    };
    ($field:ident, $value:expr, $writer:expr) => {
        WriteField::write(&$value, $writer)
    };
}

macro_rules! read_optional {
    (tls_version, $source:expr) => {
        read_tls_version($source)
    };
    ($field:ident, $source:expr) => {
        ReadField::read($source)
    };
}

optional_fields! {
    server_name = 0,
    tls_version = 1,
    tls_cipher = 2,
    route_id = 3,
    upstream_id = 4,
    traceparent = 5,
    body_follows = 6,
}

/// Reads a number of a narrower type.
#[inline]
fn small<T: TryFrom<u64>>(source: &mut Reader<'_>) -> Decoded<T> {
    T::try_from(source.uint()?).map_err(|_| DecodeErrorKind::OutOfRange)
}

/// Sets a field. It may be repeated if all its values are equal.
#[inline]
fn set<T: PartialEq>(field: &mut Option<T>, value: T) -> Decoded<()> {
    if is_new(field.as_ref(), &value)? {
        *field = Some(value);
    }
    Ok(())
}

#[inline]
pub(in crate::wire) fn write_request_headers<H: HeaderSource>(
    event: &RequestHeaders<'_, H>,
    target: &EventTarget<'_>,
    writer: &mut Writer<'_>,
) {
    let metadata = &event.metadata;
    let fields = count_fields(metadata);
    begin_event(target, REQUEST_ITEMS + usize::from(fields > 0), writer);
    write_method(event.method, writer);
    writer.str(event.uri);
    write_protocol(metadata.protocol, writer);
    write_address(metadata.client_ip, writer);
    writer.uint(u64::from(metadata.client_port));
    write_timestamp(metadata.timestamp, writer);
    writer.str(metadata.request_id);
    write_headers(&event.headers, writer);
    if fields > 0 {
        write_fields(metadata, fields, writer);
    }
}

fn read_request_headers<'a>(
    source: &mut Reader<'a>,
    scratch: &'a mut EventScratch,
    time_left: &mut Option<Duration>,
) -> Decoded<RequestHeadersView<'a>> {
    let mut items = Items::begin(source)?;
    let correlation_id = items.head(time_left)?;
    let method = read_method(items.next("method")?)?;
    let uri = items.next("uri")?.str()?;
    let mut metadata = Metadata {
        correlation_id,
        protocol: read_protocol(items.next("protocol")?)?,
        client_ip: read_address(items.next("client_ip")?, &mut scratch.client_ip)?,
        client_port: small(items.next("client_port")?)?,
        timestamp: read_timestamp(items.next("timestamp")?, &mut scratch.timestamp)?,
        request_id: items.next("request_id")?.str()?,
        ..Metadata::default()
    };
    let (names, headers) = read_headers(items.next("headers")?, &mut scratch.headers)?;
    if let Some(source) = items.optional() {
        read_fields(source, &mut metadata)?;
    }
    items.end_message()?;
    Ok(RequestHeaders {
        metadata,
        method,
        uri,
        headers: HeadersView::new(names, headers),
    })
}

#[inline]
pub(in crate::wire) fn write_response_headers<H: HeaderSource>(
    event: &ResponseHeaders<'_, H>,
    target: &EventTarget<'_>,
    writer: &mut Writer<'_>,
) {
    begin_event(target, 2, writer);
    writer.uint(u64::from(event.status));
    write_headers(&event.headers, writer);
}

fn read_response_headers<'a>(
    source: &mut Reader<'a>,
    scratch: &'a mut EventScratch,
    time_left: &mut Option<Duration>,
) -> Decoded<ResponseHeadersView<'a>> {
    let mut items = Items::begin(source)?;
    let correlation_id = items.head(time_left)?;
    let status = small(items.next("status")?)?;
    let (names, headers) = read_headers(items.next("headers")?, &mut scratch.headers)?;
    items.end_message()?;
    Ok(ResponseHeaders {
        correlation_id,
        status,
        headers: HeadersView::new(names, headers),
    })
}

pub(in crate::wire) fn write_chunk(
    chunk: &BodyChunk<'_>,
    target: &EventTarget<'_>,
    writer: &mut Writer<'_>,
) {
    begin_event(target, 5, writer);
    writer.bool(chunk.is_last);
    writer.optional_size(chunk.total_size);
    writer.uint(u64::from(chunk.chunk_index));
    writer.uint(chunk.bytes_so_far as u64);
    writer.last_body(&chunk.data);
}

fn read_chunk<'a>(
    source: &mut Reader<'a>,
    time_left: &mut Option<Duration>,
) -> Decoded<BodyChunk<'a>> {
    let mut items = Items::begin(source)?;
    let chunk = BodyChunk {
        correlation_id: items.head(time_left)?,
        is_last: items.next("is_last")?.bool()?,
        total_size: ReadField::read(items.next("total_size")?)?,
        chunk_index: small(items.next("chunk_index")?)?,
        bytes_so_far: small(items.next("bytes_so_far")?)?,
        data: Body.read(&mut items)?,
    };
    items.end_message()?;
    Ok(chunk)
}

pub(in crate::wire) fn write_configure(
    event: &Configure<'_>,
    target: &EventTarget<'_>,
    writer: &mut Writer<'_>,
) {
    begin_event(target, 1, writer);
    writer.begin_map(event.settings.len());
    for (key, setting) in &event.settings {
        writer.key(key);
        value::write(setting, writer);
    }
}

fn read_configure<'a>(
    source: &mut Reader<'a>,
    time_left: &mut Option<Duration>,
) -> Decoded<Configure<'a>> {
    let mut items = Items::begin(source)?;
    let configure = Configure {
        correlation_id: items.head(time_left)?,
        settings: value::read_map(items.next("settings")?)?,
    };
    items.end_message()?;
    Ok(configure)
}

/// Implements reading of an event that has a table of fields in `protocol::events`. Bodies are
/// last, other fields in the order of the table.
macro_rules! read_by_position {
    (
        #[doc = $what:expr]
        $(#[derive($($derive:ident),*)])?
        $borrowed:ident, $owned:ident {
            $(#[doc = $id_doc:expr])*
            correlation_id: str = $id:literal,
            $(
                $(#[doc = $doc:expr])*
                $(#[serde($($serde:tt)*)])?
                $field:ident: $kind:tt = $number:literal $(or $absent:expr)?,
            )*
        }
    ) => {
        impl<'a> ReadByPosition<'a> for $borrowed<'a> {
            #[inline]
            fn read(
                source: &mut Reader<'a>,
                scratch: &'a mut EventScratch,
                time_left: &mut Option<Duration>,
            ) -> Decoded<Self> {
                let mut items = Items::begin(source)?;
                let correlation_id = items.head(time_left)?;
                let _ = &scratch;
                $(let $field = read_unless_last!($field, items, scratch);)*
                $(let $field = read_last!($field $field, items);)*
                items.end_message()?;
                Ok($borrowed { correlation_id, $($field),* })
            }
        }
    };
}

macro_rules! read_unless_last {
    (data, $items:ident, $scratch:ident) => {
        Body
    };
    (client_ip, $items:ident, $scratch:ident) => {
        read_address($items.next("client_ip")?, &mut $scratch.client_ip)?
    };
    (opcode, $items:ident, $scratch:ident) => {
        read_opcode($items.next("opcode")?)?
    };
    (inspection_type, $items:ident, $scratch:ident) => {
        read_inspection_type($items.next("inspection_type")?)?
    };
    ($field:ident, $items:ident, $scratch:ident) => {
        ReadField::read($items.next(stringify!($field))?)?
    };
}

/// Returns the field if it has been read.
macro_rules! read_last {
    (data $body:ident, $items:ident) => {
        $body.read(&mut $items)?
    };
    ($field:ident $value:ident, $items:ident) => {
        $value
    };
}

/// Stands for a body until the other fields are read.
struct Body;

impl Body {
    fn read(self, items: &mut Items<'_, '_>) -> Decoded<Bytes> {
        items.next("data")?.bin_slice()
    }
}

trait ReadByPosition<'a>: Sized {
    fn read(
        source: &mut Reader<'a>,
        scratch: &'a mut EventScratch,
        time_left: &mut Option<Duration>,
    ) -> Decoded<Self>;
}

request_complete!(read_by_position);
websocket_frame!(read_by_position);
guardrail_inspect!(read_by_position);

/// Reads an event by what stands behind its type, and returns it from the function. The macro's
/// value is the reason why the event cannot be read.
macro_rules! read_whole {
    ($event_type:expr => $($event:ident: $read:expr,)*) => {
        match $event_type {
            $(EventType::$event => match $read {
                Ok(event) => return Ok(IncomingEvent::$event(event)),
                Err(kind) => kind,
            },)*
        }
    };
}

impl<'a> IncomingEvent<'a> {
    /// Reads an event from the payload of a message. Sets the time that is left for its call, if
    /// the message says so.
    pub(crate) fn from_compact(
        event_type: EventType,
        payload: &'a Bytes,
        scratch: &'a mut EventScratch,
        time_left: &mut Option<Duration>,
    ) -> Result<Self, Undecodable> {
        let start = Reader::new(payload);
        let mut reader = start;
        let source = &mut reader;
        // The event is large, so it is put into the result at once, and moved no more.
        let kind = read_whole!(event_type =>
            RequestHeaders: read_request_headers(source, scratch, time_left),
            RequestBodyChunk: read_chunk(source, time_left),
            ResponseHeaders: read_response_headers(source, scratch, time_left),
            ResponseBodyChunk: read_chunk(source, time_left),
            RequestComplete: ReadByPosition::read(source, scratch, time_left),
            WebSocketFrame: ReadByPosition::read(source, scratch, time_left),
            GuardrailInspect: ReadByPosition::read(source, scratch, time_left),
            Configure: read_configure(source, time_left),
        );
        Err(undecodable(event_type, kind, start))
    }
}

#[cold]
fn undecodable(event_type: EventType, kind: DecodeErrorKind, start: Reader<'_>) -> Undecodable {
    let error = DecodeError::in_message(event_type.as_str())(kind);
    Undecodable::from_values(error, start)
}
