//! Frames: lengths, limits, and bytes that arrive in pieces.

use crate::owned_event::STREAM_ID;
use bytes::{BufMut, BytesMut};
use proptest::prelude::*;
use tollgate::bench::{FrameReceiver, encode_event_frame};
use tollgate::codec::Codec;
use tollgate::error::DecodeErrorKind;
use tollgate::{BodyChunk, Bytes, Encoding, RequestBodyChunk};

const CODEC: Codec = Codec::zentinel(Encoding::Json);
const MAX_FRAME_LEN: usize = 16 * 1024 * 1024;
const PING: u8 = 0x41;

fn received(bytes: &[u8]) -> Result<Option<(u8, BytesMut)>, String> {
    let mut receiver = FrameReceiver::new(CODEC);
    receiver.receive(bytes);
    receiver.next_frame()
}

#[test]
fn length_is_checked_before_the_type_arrives() {
    assert_eq!(received(&[0, 0, 0]), Ok(None));
    assert!(received(&[0, 0, 0, 0]).is_err());
    assert_eq!(received(&[1, 0, 0, 0]), Ok(None));
    assert!(received(&[1, 0, 0, 1]).is_err());
}

#[test]
fn oversized_frame_is_not_written() {
    let written = |size: usize| {
        let chunk = BodyChunk::new("a", Bytes::from(vec![0; size]), 0, true);
        let mut out = b"before".to_vec();
        let body = encode_event_frame(CODEC, &RequestBodyChunk(chunk), &mut out);
        assert!(body.is_empty());
        out.split_off(b"before".len())
    };
    // In base64, three bytes take four.
    let over = written(MAX_FRAME_LEN / 4 * 3);
    assert!(over.is_empty());
    let fits = written(MAX_FRAME_LEN / 4 * 3 - 300);
    assert!((MAX_FRAME_LEN - 400..=MAX_FRAME_LEN + 4).contains(&fits.len()));
    assert!(received(&fits).unwrap().is_some());
}

#[test]
fn stream_id_precedes_the_message() {
    let codec = Codec::extended(Encoding::Json);
    let mut message = BytesMut::new();
    message.put_u64(STREAM_ID);
    message.put_u8(b'{');
    assert_eq!(codec.take_stream_id(&mut message), Ok(Some(STREAM_ID)));
    assert_eq!(message, "{");
    assert_eq!(
        codec.take_stream_id(&mut message),
        Err(DecodeErrorKind::CutShort)
    );
}

proptest! {
    #[test]
    fn frames_are_reassembled_from_pieces_of_any_size(
        payloads in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..200), 0..20),
        cuts in prop::collection::vec(1..50_usize, 1..100),
    ) {
        let mut stream = Vec::new();
        for payload in &payloads {
            stream.put_u32(1 + payload.len() as u32);
            stream.put_u8(PING);
            stream.put_slice(payload);
        }
        let mut receiver = FrameReceiver::new(CODEC);
        let mut received = Vec::new();
        let mut rest = &stream[..];
        for cut in cuts.into_iter().cycle() {
            let (piece, remaining) = rest.split_at(cut.min(rest.len()));
            receiver.receive(piece);
            received.extend(std::iter::from_fn(|| receiver.next_frame().unwrap()));
            rest = remaining;
            if rest.is_empty() {
                break;
            }
        }
        let sent = payloads.iter().map(|payload| (PING, BytesMut::from(&payload[..])));
        prop_assert_eq!(received, sent.collect::<Vec<_>>());
    }
}
