use super::{BodyDirection, BodyProgress, Encode};
use crate::protocol::EventType;
use crate::protocol::events::{
    BodyChunk, RequestBodyChunk, RequestBodyChunkEvent, ResponseBodyChunk, ResponseBodyChunkEvent,
};
use crate::wire::decode::{DecodeErrorKind, Field, Kind, Source};
use crate::wire::encode::Sink;
#[cfg(feature = "grpc")]
use crate::wire::protobuf;

/// Implements [`Encode`] for a borrowed body event and for its owned form.
macro_rules! body_event {
    ($direction:ident, $borrowed:ident, $owned:ident) => {
        impl Encode for $borrowed<'_> {
            const EVENT_TYPE: EventType = EventType::$borrowed;

            fn body_len(&self) -> usize {
                self.0.data.len()
            }

            fn body_progress(&self) -> Option<BodyProgress> {
                Some(progress(&self.0))
            }

            fn encode<S: Sink>(&self, correlation_id: &str, sink: &mut S) {
                encode_chunk(&self.0, BodyDirection::$direction, correlation_id, sink);
            }

            #[cfg(feature = "grpc")]
            fn encode_protobuf(&self, correlation_id: &str, writer: &mut protobuf::Writer<'_>) {
                protobuf::write_chunk(&self.0, correlation_id, writer);
            }
        }

        impl Encode for $owned {
            const EVENT_TYPE: EventType = EventType::$borrowed;

            fn body_len(&self) -> usize {
                self.data.len()
            }

            fn body_progress(&self) -> Option<BodyProgress> {
                Some(progress(&self.borrowed()))
            }

            fn encode<S: Sink>(&self, correlation_id: &str, sink: &mut S) {
                let chunk = self.borrowed();
                encode_chunk(&chunk, BodyDirection::$direction, correlation_id, sink);
            }

            #[cfg(feature = "grpc")]
            fn encode_protobuf(&self, correlation_id: &str, writer: &mut protobuf::Writer<'_>) {
                protobuf::write_chunk(&self.borrowed(), correlation_id, writer);
            }
        }
    };
}

body_event!(Request, RequestBodyChunk, RequestBodyChunkEvent);
body_event!(Response, ResponseBodyChunk, ResponseBodyChunkEvent);

/// Returns how far the body has come. Callers may leave `bytes_so_far` at zero.
fn progress(chunk: &BodyChunk<'_>) -> BodyProgress {
    let seen = chunk.bytes_so_far.max(chunk.data.len());
    BodyProgress {
        size: chunk.total_size.unwrap_or(0).max(seen),
        is_last: chunk.is_last,
    }
}

fn encode_chunk<S: Sink>(
    chunk: &BodyChunk<'_>,
    direction: BodyDirection,
    correlation_id: &str,
    sink: &mut S,
) {
    sink.begin_map(6);
    sink.str_field("correlation_id", correlation_id);
    sink.key("is_last");
    sink.bool(chunk.is_last);
    sink.key("total_size");
    sink.optional_size(chunk.total_size);
    sink.uint_field("chunk_index", u64::from(chunk.chunk_index));
    sink.uint_field(direction.count_field(), chunk.bytes_so_far as u64);
    sink.key("data");
    sink.last_body(&chunk.data);
    sink.end_map();
}

/// Decodes a chunk of a body.
pub(in crate::wire) fn decode_chunk<'a, S: Source<'a>>(
    direction: BodyDirection,
    source: &mut S,
) -> Result<BodyChunk<'a>, DecodeErrorKind> {
    let count = direction.count_field();
    let with_size = &[
        "correlation_id",
        "data",
        "is_last",
        "total_size",
        "chunk_index",
        count,
    ];
    let without_size = &["correlation_id", "data", "is_last", "chunk_index", count];
    if positional_items(source)? == Some(without_size.len()) {
        return decode_fields(without_size, source);
    }
    decode_fields(with_size, source)
}

/// Returns the length of an array. Version 0.6.11 of `zentinel-agent-protocol` omits an unknown
/// `total_size` from the array.
fn positional_items<'a, S: Source<'a>>(source: &S) -> Result<Option<usize>, DecodeErrorKind> {
    if source.peek()? != Kind::Array {
        return Ok(None);
    }
    source.clone().array().map(Some)
}

fn decode_fields<'a, S: Source<'a>>(
    names: &[&str],
    source: &mut S,
) -> Result<BodyChunk<'a>, DecodeErrorKind> {
    let mut correlation_id = Field::new();
    let mut data = Field::new();
    let mut is_last = Field::new();
    let mut total_size = Field::new();
    let mut chunk_index = Field::new();
    let mut bytes_so_far = Field::new();
    source.fields(names, |field, source| match names[field] {
        "correlation_id" => correlation_id.set(source.str()?),
        "data" => data.set(source.body()?),
        "is_last" => is_last.set(source.bool()?),
        "total_size" => total_size.set(source.optional(S::number)?),
        "chunk_index" => chunk_index.set(source.number()?),
        _ => bytes_so_far.set(source.number()?),
    })?;
    Ok(BodyChunk {
        correlation_id: correlation_id.required("correlation_id")?,
        data: data.required("data")?,
        is_last: is_last.required("is_last")?,
        total_size: total_size.or_default(),
        chunk_index: chunk_index.or_default(),
        bytes_so_far: bytes_so_far.or_default(),
    })
}
