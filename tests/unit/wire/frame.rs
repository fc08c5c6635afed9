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
