//! Encodes and decodes each kind of message with the protocol extension.

use crate::OPERATIONS;
use crate::common::{Answer, Sample};
use iai_callgrind::{library_benchmark, library_benchmark_group};
use std::hint::black_box;
use tollgate::bench::{FrameReceiver, encode_answer_frame};
use tollgate::codec::Codec;
use tollgate::{AgentResponse, Bytes, Encoding};

const MESSAGE_PACK: Codec = Codec::extended(Encoding::MessagePack);
const COMPACT: Codec = Codec::compact();
const JSON: Codec = Codec::extended(Encoding::Json);
const PROTOBUF: Codec = Codec::extended(Encoding::Protobuf);

trait Message {
    fn encode(&self, codec: Codec, out: &mut Vec<u8>) -> Bytes;
    /// Decodes and drops the next message. Returns whether it is of this kind.
    fn decode_next(receiver: &mut FrameReceiver) -> bool;
}

impl Message for Sample {
    fn encode(&self, codec: Codec, out: &mut Vec<u8>) -> Bytes {
        self.encode(codec, out)
    }

    fn decode_next(receiver: &mut FrameReceiver) -> bool {
        receiver.decode_event()
    }
}

impl Message for AgentResponse {
    fn encode(&self, codec: Codec, out: &mut Vec<u8>) -> Bytes {
        encode_answer_frame(codec, self, out)
    }

    fn decode_next(receiver: &mut FrameReceiver) -> bool {
        black_box(receiver.decode_answer()).is_some()
    }
}

/// A message to encode, with a buffer that is large enough.
struct Outgoing<M> {
    message: M,
    codec: Codec,
    out: Vec<u8>,
}

fn to_message_pack<M: Message>(message: M) -> Outgoing<M> {
    outgoing(message, MESSAGE_PACK)
}

fn to_compact<M: Message>(message: M) -> Outgoing<M> {
    outgoing(message, COMPACT)
}

fn to_json<M: Message>(message: M) -> Outgoing<M> {
    outgoing(message, JSON)
}

fn to_protobuf<M: Message>(message: M) -> Outgoing<M> {
    outgoing(message, PROTOBUF)
}

fn outgoing<M: Message>(message: M, codec: Codec) -> Outgoing<M> {
    let mut out = Vec::new();
    message.encode(codec, &mut out);
    Outgoing {
        message,
        codec,
        out,
    }
}

fn encode<M: Message>(mut outgoing: Outgoing<M>) -> Outgoing<M> {
    for _ in 0..OPERATIONS {
        outgoing.out.clear();
        let message = black_box(&outgoing.message);
        black_box(message.encode(outgoing.codec, &mut outgoing.out));
    }
    outgoing
}

fn from_message_pack<M: Message>(message: M) -> FrameReceiver {
    received(&message, MESSAGE_PACK)
}

fn from_compact<M: Message>(message: M) -> FrameReceiver {
    received(&message, COMPACT)
}

fn from_json<M: Message>(message: M) -> FrameReceiver {
    received(&message, JSON)
}

fn from_protobuf<M: Message>(message: M) -> FrameReceiver {
    received(&message, PROTOBUF)
}

fn received<M: Message>(message: &M, codec: Codec) -> FrameReceiver {
    let mut frame = Vec::new();
    let body = message.encode(codec, &mut frame);
    frame.extend_from_slice(&body);
    let mut receiver = FrameReceiver::new(codec);
    // A first message makes the receiver allocate the memory that it keeps.
    receiver.receive(&frame);
    assert!(M::decode_next(&mut receiver));
    receiver.receive(&frame.repeat(OPERATIONS));
    receiver
}

fn decode<M: Message>(mut received: FrameReceiver) -> FrameReceiver {
    for _ in 0..OPERATIONS {
        assert!(M::decode_next(&mut received));
    }
    received
}

macro_rules! benchmark_codecs {
    ($module:ident: $message:ident, $($id:ident($value:expr)),+) => {
        pub(crate) mod $module {
            use super::*;

            #[library_benchmark(setup = to_message_pack)]
            $(#[bench::$id($value)])+
            fn encode_message_pack(message: Outgoing<$message>) -> Outgoing<$message> {
                encode(message)
            }

            #[library_benchmark(setup = to_compact)]
            $(#[bench::$id($value)])+
            fn encode_compact(message: Outgoing<$message>) -> Outgoing<$message> {
                encode(message)
            }

            #[library_benchmark(setup = to_json)]
            $(#[bench::$id($value)])+
            fn encode_json(message: Outgoing<$message>) -> Outgoing<$message> {
                encode(message)
            }

            #[library_benchmark(setup = to_protobuf)]
            $(#[bench::$id($value)])+
            fn encode_protobuf(message: Outgoing<$message>) -> Outgoing<$message> {
                encode(message)
            }

            #[library_benchmark(setup = from_message_pack)]
            $(#[bench::$id($value)])+
            fn decode_message_pack(received: FrameReceiver) -> FrameReceiver {
                decode::<$message>(received)
            }

            #[library_benchmark(setup = from_compact)]
            $(#[bench::$id($value)])+
            fn decode_compact(received: FrameReceiver) -> FrameReceiver {
                decode::<$message>(received)
            }

            #[library_benchmark(setup = from_json)]
            $(#[bench::$id($value)])+
            fn decode_json(received: FrameReceiver) -> FrameReceiver {
                decode::<$message>(received)
            }

            #[library_benchmark(setup = from_protobuf)]
            $(#[bench::$id($value)])+
            fn decode_protobuf(received: FrameReceiver) -> FrameReceiver {
                decode::<$message>(received)
            }

            library_benchmark_group!(
                name = $module;
                benchmarks =
                    encode_message_pack, encode_compact, encode_json, encode_protobuf,
                    decode_message_pack, decode_compact, decode_json, decode_protobuf
            );
        }
    };
}

benchmark_codecs! {
    events: Sample,
    request_headers_10(Sample::request_headers(10)),
    request_headers_40(Sample::request_headers(40)),
    hyper_request_headers_10(Sample::hyper_request_headers(10)),
    hyper_request_headers_40(Sample::hyper_request_headers(40)),
    request_body_1_kib(Sample::request_body(1 << 10)),
    request_body_64_kib(Sample::request_body(64 << 10)),
    response_headers_10(Sample::response_headers(10)),
    response_body_1_kib(Sample::response_body(1 << 10)),
    request_complete(Sample::request_complete()),
    websocket_frame_1_kib(Sample::websocket_frame(1 << 10)),
    guardrail_inspect_256_b(Sample::guardrail_inspect(256)),
    guardrail_inspect_4_kib(Sample::guardrail_inspect(4 << 10)),
    configure(Sample::configure())
}

benchmark_codecs! {
    responses: AgentResponse,
    allow(Answer::Allow.response()),
    block(Answer::Block.response()),
    redirect(Answer::Redirect.response()),
    challenge(Answer::Challenge.response()),
    header_operations_3(Answer::HeaderOperations.response()),
    audit(Answer::Audit.response()),
    body_mutation_1_kib(Answer::BodyMutation(1 << 10).response()),
    body_mutation_64_kib(Answer::BodyMutation(64 << 10).response()),
    websocket_close(Answer::WebSocketClose.response())
}
