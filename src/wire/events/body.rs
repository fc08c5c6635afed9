use super::{BodyDirection, BodyProgress, Encode, EventTarget};
use crate::protocol::EventType;
use crate::protocol::events::{
    BodyChunk, RequestBodyChunk, RequestBodyChunkEvent, ResponseBodyChunk, ResponseBodyChunkEvent,
};
use crate::wire::decode::{Decoded, Kind, Source};
use crate::wire::encode::Sink;
use crate::wire::fields::read_struct;
use crate::wire::incoming_event::IncomingEvent;
#[cfg(feature = "grpc")]
use crate::wire::protobuf;
use crate::wire::views::HeadersView;
use crate::wire::{compact, msgpack};

/// Implements [`Encode`] for the forms of body events, each of which contains a chunk.
macro_rules! body_events {
    ($($form:ty: $event:ident $direction:ident |$this:ident| $chunk:expr, $data:expr;)*) => {$(
        impl Encode for $form {
            const EVENT_TYPE: EventType = EventType::$event;

            fn body_len(&self) -> usize {
                let $this = self;
                $data.len()
            }

            fn body_progress(&self) -> Option<BodyProgress> {
                let $this = self;
                Some(progress($chunk))
            }

            fn view<'v>(&'v self, correlation_id: &'v str, _: HeadersView<'v>) -> IncomingEvent<'v> {
                let $this = self;
                IncomingEvent::$event(BodyChunk {
                    correlation_id,
                    ..$chunk.clone()
                })
            }

            fn encode<S: Sink>(&self, correlation_id: &str, sink: &mut S) {
                let $this = self;
                encode_chunk($chunk, BodyDirection::$direction, correlation_id, sink);
            }

            fn encode_compact(&self, target: &EventTarget<'_>, writer: &mut msgpack::Writer<'_>) {
                let $this = self;
                compact::write_chunk($chunk, target, writer);
            }

            #[cfg(feature = "grpc")]
            fn encode_protobuf(&self, correlation_id: &str, writer: &mut protobuf::Writer<'_>) {
                let $this = self;
                protobuf::write_chunk($chunk, correlation_id, writer);
            }
        }
    )*};
}

body_events! {
    RequestBodyChunk<'_>: RequestBodyChunk Request |event| &event.0, event.0.data;
    RequestBodyChunkEvent: RequestBodyChunk Request |event| &event.borrowed(), event.data;
    ResponseBodyChunk<'_>: ResponseBodyChunk Response |event| &event.0, event.0.data;
    ResponseBodyChunkEvent: ResponseBodyChunk Response |event| &event.borrowed(), event.data;
}

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
) -> Decoded<BodyChunk<'a>> {
    read_struct!(source, each_field => BodyChunk {
        correlation_id,
        data,
        is_last,
        total_size [default],
        chunk_index [default],
        bytes_so_far [default] as direction.count_field(),
    })
}

/// Calls `read` with each field of a chunk. Version 0.6.11 of `zentinel-agent-protocol` omits an
/// unknown `total_size` from the array.
fn each_field<'a, S: Source<'a>>(
    source: &mut S,
    keys: &[&str],
    mut read: impl FnMut(usize, &mut S) -> Decoded<()>,
) -> Decoded<()> {
    let omitted = match positional_items(source)? {
        Some(items) if items + 1 == keys.len() => keys.iter().position(|key| *key == "total_size"),
        _ => None,
    };
    source.fields(keys, |at, source| match omitted {
        Some(omitted) if at >= omitted => read(at + 1, source),
        _ => read(at, source),
    })
}

/// Returns the length of an array.
fn positional_items<'a, S: Source<'a>>(source: &S) -> Decoded<Option<usize>> {
    if source.peek()? != Kind::Array {
        return Ok(None);
    }
    source.clone().array().map(Some)
}
