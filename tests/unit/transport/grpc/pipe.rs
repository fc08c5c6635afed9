use super::*;
use crate::wire::{MAX_FRAME_LEN, MessageType, OutgoingFrame, frame_of, write_message};

fn take(pipe: &PipeBody) -> Vec<u8> {
    let mut queue = lock(&pipe.pipe.queue);
    std::iter::from_fn(|| queue.take()).flatten().collect()
}

#[test]
fn frames_become_messages() {
    let (sender, body) = request_pipe();
    let mut frames = frame_of(MessageType::Ping, b"first").unwrap();
    write_message(&mut frames.written, MessageType::Pong, MAX_FRAME_LEN, b"").unwrap();
    let mut with_body = frame_of(MessageType::RequestBodyChunk, b"head+body").unwrap();
    with_body.written.truncate(10);
    with_body.body = Bytes::from_static(b"body");
    let mut batch = Batch::default();
    batch.push(frames);
    batch.push(with_body);
    sender.try_send(&mut batch, &drop).unwrap();
    assert!(batch.is_empty());
    let expected = b"\0\0\0\0\x05first\0\0\0\0\0\0\0\0\0\x09head+body";
    assert_eq!(take(&body), expected);
}

#[test]
fn full_pipe_leaves_frames_in_the_batch() {
    let (sender, body) = request_pipe();
    let mut batch = Batch::default();
    for _ in 0..3 {
        batch.push(OutgoingFrame::from(vec![0; MAX_QUEUED]));
    }
    sender.try_send(&mut batch, &drop).unwrap();
    assert_eq!(batch.len(), 2);
    let mut cx = Context::from_waker(std::task::Waker::noop());
    assert!(sender.poll_room(&mut cx).is_pending());
    assert_eq!(take(&body).len(), MAX_QUEUED);
    assert!(sender.poll_room(&mut cx).is_ready());
    drop(body);
    assert!(sender.try_send(&mut batch, &drop).is_err());
}
