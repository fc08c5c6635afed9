use super::Encode;
use crate::protocol::EventType;
use crate::protocol::events::{RequestComplete, RequestCompleteEvent};
use crate::wire::decode::{DecodeErrorKind, Field, Source};
use crate::wire::encode::Sink;
#[cfg(feature = "grpc")]
use crate::wire::protobuf;

const FIELDS: &[&str] = &[
    "correlation_id",
    "status",
    "duration_ms",
    "request_body_size",
    "response_body_size",
    "upstream_attempts",
    "error",
];

impl Encode for RequestComplete<'_> {
    const EVENT_TYPE: EventType = EventType::RequestComplete;

    fn encode<S: Sink>(&self, correlation_id: &str, sink: &mut S) {
        sink.begin_map(FIELDS.len());
        sink.str_field("correlation_id", correlation_id);
        sink.uint_field("status", u64::from(self.status));
        sink.uint_field("duration_ms", self.duration_ms);
        sink.uint_field("request_body_size", self.request_body_size as u64);
        sink.uint_field("response_body_size", self.response_body_size as u64);
        sink.uint_field("upstream_attempts", u64::from(self.upstream_attempts));
        sink.optional_str_field("error", self.error);
        sink.end_map();
    }

    #[cfg(feature = "grpc")]
    fn encode_protobuf(&self, correlation_id: &str, writer: &mut protobuf::Writer<'_>) {
        protobuf::write_complete(self, correlation_id, writer);
    }
}

impl Encode for RequestCompleteEvent {
    const EVENT_TYPE: EventType = EventType::RequestComplete;

    fn encode<S: Sink>(&self, correlation_id: &str, sink: &mut S) {
        self.borrowed().encode(correlation_id, sink);
    }

    #[cfg(feature = "grpc")]
    fn encode_protobuf(&self, correlation_id: &str, writer: &mut protobuf::Writer<'_>) {
        self.borrowed().encode_protobuf(correlation_id, writer);
    }
}

/// Decodes a request complete event.
pub(in crate::wire) fn decode<'a, S: Source<'a>>(
    source: &mut S,
) -> Result<RequestComplete<'a>, DecodeErrorKind> {
    let mut correlation_id = Field::new();
    let mut status = Field::new();
    let mut duration_ms = Field::new();
    let mut request_body_size = Field::new();
    let mut response_body_size = Field::new();
    let mut upstream_attempts = Field::new();
    let mut error = Field::new();
    source.fields(FIELDS, |field, source| match field {
        0 => correlation_id.set(source.str()?),
        1 => status.set(source.number()?),
        2 => duration_ms.set(source.number()?),
        3 => request_body_size.set(source.number()?),
        4 => response_body_size.set(source.number()?),
        5 => upstream_attempts.set(source.number()?),
        _ => error.set(source.optional(S::str)?),
    })?;
    Ok(RequestComplete {
        correlation_id: correlation_id.required("correlation_id")?,
        status: status.required("status")?,
        duration_ms: duration_ms.required("duration_ms")?,
        request_body_size: request_body_size.required("request_body_size")?,
        response_body_size: response_body_size.required("response_body_size")?,
        upstream_attempts: upstream_attempts.required("upstream_attempts")?,
        error: error.or_default(),
    })
}
