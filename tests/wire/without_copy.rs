//! Large bodies are not copied in MessagePack with the tollgate extension.

use crate::owned_event::{Encoded, OwnedEvent, call};
use bytes::Bytes;
use tollgate::Encoding;
use tollgate::codec::Codec;
use tollgate::events::{RequestBodyChunkEvent, ResponseBodyChunkEvent};
use tollgate::response::{AgentResponse, BodyMutation};

/// Codec in which bodies are bytes.
const BINARY: Codec = Codec::extended(Encoding::MessagePack);

/// Size of the largest body that is copied into the buffer of its message.
const MAX_INLINE_BODY: usize = 256;

fn body(len: usize) -> Bytes {
    vec![0xfe; len].into()
}

fn chunks(data: &Bytes) -> [OwnedEvent; 2] {
    [
        OwnedEvent::RequestBodyChunk(RequestBodyChunkEvent::new("c", data.clone(), 0, true)),
        OwnedEvent::ResponseBodyChunk(ResponseBodyChunkEvent::new("c", data.clone(), 0, true)),
    ]
}

#[test]
fn large_chunk_is_not_copied() {
    let data = body(MAX_INLINE_BODY + 1);
    for event in chunks(&data) {
        let encoded = event.encode(BINARY);
        assert_eq!(encoded.detached.as_ptr(), data.as_ptr());
        assert_eq!(encoded.detached.len(), data.len());
    }
}

#[test]
fn small_chunk_is_copied() {
    for event in chunks(&body(MAX_INLINE_BODY)) {
        assert!(event.encode(BINARY).detached.is_empty());
    }
}

#[test]
fn json_copies_every_body() {
    let json = Codec::extended(Encoding::Json);
    for event in chunks(&body(MAX_INLINE_BODY + 1)) {
        assert!(event.encode(json).detached.is_empty());
    }
}

#[test]
fn last_mutation_of_a_response_is_not_copied() {
    let (request, response) = (body(1000), body(2000));
    let mutated = |data: &Bytes| BodyMutation::replace(0, data.clone());
    let one = AgentResponse::default_allow().with_request_body_mutation(mutated(&request));
    let both = one.clone().with_response_body_mutation(mutated(&response));
    for (answer, last) in [(one, request), (both, response)] {
        let Encoded { detached, .. } = Encoded::answer(&answer, BINARY, call("c"));
        assert_eq!(detached.as_ptr(), last.as_ptr());
        assert_eq!(detached.len(), last.len());
    }
}
