use super::*;

#[test]
fn announced_length_does_not_reserve_memory() {
    let mut buffer = FrameBuffer::default();
    buffer
        .spare()
        .extend_from_slice(&[0x00, 0xff, 0xff, 0xff, 0x20]);
    assert_eq!(buffer.next_frame(MAX_FRAME_LEN), Ok(None));
    assert!(buffer.spare().capacity() < 3 * READ_SIZE);
}

#[test]
fn buffer_of_a_large_frame_ends_with_the_frame() {
    let frame = frame_of(MessageType::Ping, &vec![7; 5 << 20])
        .unwrap()
        .written;
    for before in [0, 100, MAX_KEPT] {
        let mut buffer = FrameBuffer::default();
        buffer.spare().extend_from_slice(
            &frame_of(MessageType::Pong, &vec![1; before])
                .unwrap()
                .written,
        );
        let mut rest = &frame[..];
        let mut earlier = None;
        while !rest.is_empty() {
            let spare = buffer.spare();
            let room = spare.capacity() - spare.len();
            let (now, later) = rest.split_at(room.min(rest.len()).min(10_000));
            spare.extend_from_slice(now);
            rest = later;
            earlier = earlier.or_else(|| buffer.next_frame(MAX_FRAME_LEN).unwrap());
        }
        assert!(
            buffer.memory() <= frame.len() + READ_SIZE,
            "{}",
            buffer.memory()
        );
        assert_eq!(earlier.unwrap().1.len(), before);
        let (_, payload) = buffer.next_frame(MAX_FRAME_LEN).unwrap().unwrap();
        assert!(payload == frame[FRAME_HEADER_LEN..]);
    }
}
