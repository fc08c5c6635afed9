//! Events in protobuf, encoded from and decoded to their borrowed form.

use super::envelope;
use super::json_text;
use super::numbered::{ReadMessage, read_message, write_message};
use super::reader::{HeaderCheck, HeaderReader, Reader, Value, set_once};
use super::timestamp::parse_ms;
use super::writer::Writer;
use crate::protocol::events::{BodyChunk, Configure, Metadata, RequestHeaders, ResponseHeaders};
use crate::protocol::{EventType, FieldValue, HeaderSource, Timestamp};
use crate::wire::Dialect;
use crate::wire::decode::{DecodeError, DecodeErrorKind, Decoded};
use crate::wire::events::{Event, EventTarget, message_of};
use crate::wire::incoming::read_event;
use crate::wire::incoming_event::IncomingEvent;
use crate::wire::recover_id::Undecodable;
use crate::wire::views::{HeadersView, RequestHeadersView, ResponseHeadersView};
use bytes::Bytes;
use serde_json::Map;

/// Appends an event in its envelope to `out`. Returns the rest of it, which is not copied.
pub(in crate::wire) fn write_event<E: Event>(
    event: &E,
    target: EventTarget<'_>,
    dialect: Dialect,
    out: &mut Vec<u8>,
) -> Bytes {
    let mut writer = Writer::new(out);
    let stream = dialect.has_streams().then_some(target.stream);
    envelope::write(message_of(E::EVENT_TYPE), stream, &mut writer, |writer| {
        event.encode_protobuf(target.correlation_id, writer);
    });
    writer.into_detached()
}

pub(in crate::wire) fn write_request_headers<H: HeaderSource>(
    event: &RequestHeaders<'_, H>,
    correlation_id: &str,
    writer: &mut Writer<'_>,
) {
    writer.large_message(1, |writer| {
        write_metadata(&event.metadata, correlation_id, writer);
    });
    writer.str(2, event.method);
    writer.str(3, event.uri);
    writer.str(4, event.metadata.protocol);
    write_headers(5, &event.headers, writer);
}

fn write_metadata(metadata: &Metadata<'_>, correlation_id: &str, writer: &mut Writer<'_>) {
    writer.str(1, correlation_id);
    writer.str(2, metadata.request_id);
    writer.str(3, metadata.client_ip);
    writer.uint(4, u64::from(metadata.client_port));
    writer.optional_str(5, metadata.server_name);
    writer.str(6, metadata.protocol);
    writer.optional_str(7, metadata.tls_version);
    writer.optional_str(8, metadata.route_id);
    writer.optional_str(9, metadata.upstream_id);
    writer.uint(10, parse_ms(metadata.timestamp));
    writer.optional_str(11, metadata.traceparent);
    writer.optional_str(1000, metadata.tls_cipher);
    writer.some_str(1001, metadata.timestamp);
    if let Some(body_follows) = metadata.body_follows {
        writer.some_bool(1002, body_follows);
    }
}

fn write_headers(field: u32, headers: &impl HeaderSource, writer: &mut Writer<'_>) {
    let mut write = |name, value: FieldValue<'_>| writer.str_pair(field, name, &value.to_text());
    if let Some(singles) = headers.singles() {
        return singles.for_each(|(name, value)| write(name, value));
    }
    if let Some(headers) = headers.ungrouped() {
        return headers.for_each(|(name, value)| write(name, value));
    }
    for (name, values) in headers.grouped() {
        values.into_iter().for_each(|value| write(name, value));
    }
}

pub(in crate::wire) fn write_response_headers<H: HeaderSource>(
    event: &ResponseHeaders<'_, H>,
    correlation_id: &str,
    writer: &mut Writer<'_>,
) {
    writer.str(1, correlation_id);
    writer.uint(2, u64::from(event.status));
    write_headers(3, &event.headers, writer);
}

pub(in crate::wire) fn write_chunk(
    chunk: &BodyChunk<'_>,
    correlation_id: &str,
    writer: &mut Writer<'_>,
) {
    write_message!(writer;
        &correlation_id => 1, &chunk.chunk_index => 2, &chunk.is_last => 4,
        &chunk.total_size => 5, &chunk.bytes_so_far => 6, &chunk.data => 3,
    );
}

/// Settings that have their own field in the message.
const CONFIG: &str = "config";
const CONFIG_VERSION: &str = "config_version";

pub(in crate::wire) fn write_configure(
    event: &Configure<'_>,
    correlation_id: &str,
    writer: &mut Writer<'_>,
) {
    let mut others = Map::new();
    for (key, setting) in &event.settings {
        match (key.as_str(), setting.as_str()) {
            ("correlation_id", _) => {}
            (CONFIG, _) => writer.str(1, &setting.to_string()),
            (CONFIG_VERSION, Some(version)) => writer.some_str(2, version),
            _ => drop(others.insert(key.clone(), setting.clone())),
        }
    }
    writer.str(1000, correlation_id);
    if !others.is_empty() {
        writer.some_str(1001, &serde_json::Value::Object(others).to_string());
    }
}

/// Writes whether settings are the first of a connection.
pub(in crate::wire) fn write_is_initial(is_initial: bool, writer: &mut Writer<'_>) {
    writer.bool(3, is_initial);
}

impl<'a> IncomingEvent<'a> {
    /// Decodes an event from its envelope. The event may borrow its text form of the time from
    /// `timestamp`.
    pub(crate) fn from_protobuf(
        event_type: EventType,
        envelope: &'a Bytes,
        timestamp: &'a mut Timestamp,
    ) -> Result<Self, Undecodable> {
        let opened = envelope::open(message_of(event_type), envelope);
        // A chain of closures would copy the event, which is large, at each step.
        let kind = match opened {
            Ok(message) => match read(event_type, message, envelope, timestamp) {
                Ok(event) => return Ok(event),
                Err(kind) => kind,
            },
            Err(kind) => kind,
        };
        Err(Undecodable {
            error: DecodeError::in_message(event_type.as_str())(kind),
            correlation_id: opened
                .ok()
                .and_then(|message| recover_id(event_type, message)),
        })
    }
}

fn read<'a>(
    event_type: EventType,
    message: &'a [u8],
    envelope: &Bytes,
    timestamp: &'a mut Timestamp,
) -> Decoded<IncomingEvent<'a>> {
    Ok(read_event!(event_type =>
        RequestHeaders: read_request_headers(message, timestamp),
        RequestBodyChunk: read_chunk(message, envelope),
        ResponseHeaders: read_response_headers(message),
        ResponseBodyChunk: read_chunk(message, envelope),
        RequestComplete: ReadMessage::read(message, envelope),
        WebSocketFrame: ReadMessage::read(message, envelope),
        GuardrailInspect: ReadMessage::read(message, envelope),
        Configure: read_configure(message),
    ))
}

fn read_request_headers<'a>(
    message: &'a [u8],
    timestamp: &'a mut Timestamp,
) -> Decoded<RequestHeadersView<'a>> {
    let mut metadata = None;
    let (mut method, mut uri) = ("", "");
    let mut headers = HeaderCheck::default();
    Reader::new(message).each(|field, value| {
        match field {
            1 => set_once(&mut metadata, value.bytes()?)?,
            2 => method = value.str()?,
            3 => uri = value.str()?,
            5 => headers.take(value)?,
            _ => {}
        }
        Ok(())
    })?;
    let metadata = metadata.ok_or(DecodeErrorKind::Missing("metadata"))?;
    Ok(RequestHeaders {
        metadata: read_metadata(metadata, timestamp)?,
        method,
        uri,
        headers: HeadersView::new(headers.names, HeaderReader::new(message, 5)),
    })
}

fn read_metadata<'a>(message: &'a [u8], timestamp: &'a mut Timestamp) -> Decoded<Metadata<'a>> {
    let mut metadata = Metadata::default();
    let (mut timestamp_ms, mut has_timestamp) = (0, false);
    Reader::new(message).each(|field, value| {
        match field {
            1 => metadata.correlation_id = value.str()?,
            2 => metadata.request_id = value.str()?,
            3 => metadata.client_ip = value.str()?,
            4 => metadata.client_port = value.number()?,
            5 => metadata.server_name = Some(value.str()?),
            6 => metadata.protocol = value.str()?,
            7 => metadata.tls_version = Some(value.str()?),
            8 => metadata.route_id = Some(value.str()?),
            9 => metadata.upstream_id = Some(value.str()?),
            10 => timestamp_ms = value.number()?,
            11 => metadata.traceparent = Some(value.str()?),
            1000 => metadata.tls_cipher = Some(value.str()?),
            1001 => {
                metadata.timestamp = value.str()?;
                has_timestamp = true;
            }
            1002 => metadata.body_follows = Some(read_flag(value)?),
            _ => {}
        }
        Ok(())
    })?;
    if !has_timestamp {
        *timestamp = Timestamp::from_ms(timestamp_ms);
        metadata.timestamp = timestamp.as_str();
    }
    Ok(metadata)
}

/// Not inlined, since more code there makes the fields before it slower.
#[cold]
#[inline(never)]
fn read_flag(value: Value<'_>) -> Decoded<bool> {
    value.bool()
}

fn read_response_headers(message: &[u8]) -> Decoded<ResponseHeadersView<'_>> {
    let (mut correlation_id, mut status) = ("", 0);
    let mut headers = HeaderCheck::default();
    Reader::new(message).each(|field, value| {
        match field {
            1 => correlation_id = value.str()?,
            2 => status = value.number()?,
            3 => headers.take(value)?,
            _ => {}
        }
        Ok(())
    })?;
    Ok(ResponseHeaders {
        correlation_id,
        status,
        headers: HeadersView::new(headers.names, HeaderReader::new(message, 3)),
    })
}

fn read_chunk<'a>(message: &'a [u8], envelope: &Bytes) -> Decoded<BodyChunk<'a>> {
    read_message!(message, envelope => BodyChunk {
        correlation_id = 1, chunk_index = 2, data = 3, is_last = 4, total_size = 5,
        bytes_so_far = 6,
    })
}

fn read_configure(message: &[u8]) -> Decoded<Configure<'_>> {
    let (mut correlation_id, mut config, mut version, mut others) = ("", "", None, None);
    Reader::new(message).each(|field, value| {
        match field {
            1 => config = value.str()?,
            2 => version = Some(value.str()?),
            1000 => correlation_id = value.str()?,
            1001 => others = Some(value.str()?),
            _ => {}
        }
        Ok(())
    })?;
    let mut settings = match others {
        Some(text) => json_text::read_map(text)?,
        None => Map::new(),
    };
    settings.remove("correlation_id");
    if !config.is_empty() {
        settings.insert(CONFIG.to_owned(), json_text::read(config)?);
    }
    if let Some(version) = version {
        settings.insert(CONFIG_VERSION.to_owned(), version.into());
    }
    Ok(Configure {
        correlation_id,
        settings,
    })
}

/// Returns the correlation id of an event that does not decode, if it comes before the error.
fn recover_id(event_type: EventType, message: &[u8]) -> Option<String> {
    let (holder, field) = match event_type {
        EventType::RequestHeaders => (find(message, 1)?, 1),
        EventType::Configure => (message, 1000),
        _ => (message, 1),
    };
    recover_str(holder, field)
}

/// Returns a string field unless it is missing or empty.
pub(super) fn recover_str(message: &[u8], field: u32) -> Option<String> {
    let text = std::str::from_utf8(find(message, field)?).ok()?;
    (!text.is_empty()).then(|| text.to_owned())
}

fn find(message: &[u8], wanted: u32) -> Option<&[u8]> {
    let mut fields = Reader::new(message);
    while let Ok(Some((field, value))) = fields.next() {
        if field == wanted {
            return value.bytes().ok();
        }
    }
    None
}
