use super::*;

/// A ping, an unknown message, an empty message, and an allow on a stream.
const MESSAGES: &[u8] =
    b"\0\0\0\0\x04\x3a\x02\x08\x07\0\0\0\0\x02\x78\x01\0\0\0\0\0\0\0\0\0\x04\x12\x02\x12\0";
const FRAMES: &[u8] =
    b"\0\0\0\x05\x42\x3a\x02\x08\x07\0\0\0\x03\0\x78\x01\0\0\0\x01\0\0\0\0\x05\x20\x12\x02\x12\0";

#[test]
fn messages_become_frames_at_any_chunk_size() {
    for size in 1..=MESSAGES.len() {
        let mut unframer = Unframer::new(Direction::ToProxy, 100);
        let mut frames = BytesMut::new();
        for piece in MESSAGES.chunks(size) {
            unframer
                .add(Bytes::copy_from_slice(piece), &mut frames)
                .unwrap();
        }
        assert_eq!(frames, FRAMES);
        assert!(unframer.ended().is_ok());
    }
}

#[test]
fn invalid_messages_are_rejected() {
    let mut into = BytesMut::new();
    for head in [b"\x01\0\0\0\0", b"\0\0\0\0\x65", b"\0\xff\xff\xff\xff"] {
        let mut unframer = Unframer::new(Direction::ToProxy, 100);
        let rejected = unframer.add(Bytes::from_static(head), &mut into);
        assert!(rejected.is_err());
    }
    let mut unlimited = Unframer::new(Direction::ToProxy, usize::MAX);
    let head = Bytes::from_static(b"\0\xff\xff\xff\xff");
    assert!(unlimited.add(head, &mut into).is_err());
    let mut unframer = Unframer::new(Direction::ToProxy, 100);
    unframer
        .add(Bytes::from_static(b"\0\0\0\0\x02x"), &mut into)
        .unwrap();
    assert!(unframer.ended().is_err());
}
