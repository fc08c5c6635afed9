//! Tests of every interleaving of a few threads on one send queue, by loom (`scripts/loom`).

use super::*;
use loom::future::block_on;
use loom::sync::Mutex as CheckedMutex;
use loom::thread;
use std::future::poll_fn;
use std::io::IoSlice;
use std::sync::Arc;

/// A link that records the first byte of every frame that it sends.
#[derive(Default)]
struct RecordingLink(CheckedMutex<Vec<u8>>);

impl RecordingLink {
    fn sent(&self) -> Vec<u8> {
        self.0.lock().unwrap().clone()
    }
}

impl LinkSender for RecordingLink {
    fn try_send(&self, batch: &mut Batch, recycle: &dyn Fn(Vec<u8>)) -> Result<(), LinkError> {
        while !batch.is_empty() {
            let mut slices = [IoSlice::new(&[])];
            batch.fill(&mut slices);
            self.0.lock().unwrap().push(slices[0][0]);
            let sent = slices[0].len();
            batch.advance(sent, recycle);
        }
        Ok(())
    }

    fn poll_room(&self, _: &mut Context<'_>) -> Poll<Result<(), LinkError>> {
        Poll::Ready(Ok(()))
    }

    fn close(&self) {}
}

/// A [`RecordingLink`] over which every caller sends at once.
#[derive(Default)]
struct CheapLink(RecordingLink);

impl LinkSender for CheapLink {
    fn try_send(&self, batch: &mut Batch, recycle: &dyn Fn(Vec<u8>)) -> Result<(), LinkError> {
        self.0.try_send(batch, recycle)
    }

    fn poll_room(&self, cx: &mut Context<'_>) -> Poll<Result<(), LinkError>> {
        self.0.poll_room(cx)
    }

    fn close(&self) {}

    fn is_cheap(&self) -> bool {
        true
    }
}

fn frame(content: u8) -> OutgoingFrame {
    OutgoingFrame {
        written: vec![content],
        body: bytes::Bytes::new(),
    }
}

/// Runs the loop of `run_writer` until `count` frames are sent.
fn write(send_queue: &SendQueue, link: &RecordingLink, count: usize) {
    while link.sent().len() < count {
        block_on(poll_fn(|cx| send_queue.poll_requested(cx)));
        send_queue.take_request();
        while matches!(send_queue.drain(link), Ok(Drained::Busy)) {
            thread::yield_now();
        }
    }
}

/// Pushes a frame and sends it from the caller's thread, as a caller does while no other call is
/// pending.
fn send_now(send_queue: &SendQueue, link: &RecordingLink, content: u8) {
    send_queue.try_push(frame(content)).unwrap();
    if !matches!(send_queue.drain(link), Ok(Drained::Empty)) {
        send_queue.request_writer();
    }
}

/// Frames left to the writer task are sent, whenever it checks for requests.
#[test]
fn writer_misses_no_request() {
    loom::model(|| {
        let shared = Arc::new((SendQueue::new(2), RecordingLink::default()));
        let calling = Arc::clone(&shared);
        let caller = thread::spawn(move || {
            for content in 0..2 {
                calling.0.try_push(frame(content)).unwrap();
                calling.0.request_writer();
            }
        });
        write(&shared.0, &shared.1, 2);
        caller.join().unwrap();
        assert_eq!(shared.1.sent(), [0, 1]);
    });
}

/// Two callers send at the same time. One that finds the other sending leaves its frame to the
/// writer task.
#[test]
fn concurrent_callers_leave_no_frame_unsent() {
    let mut model = loom::model::Builder::new();
    model.preemption_bound = Some(3);
    model.check(|| {
        let shared = Arc::new((SendQueue::new(2), RecordingLink::default()));
        let (one, two) = (Arc::clone(&shared), Arc::clone(&shared));
        let first = thread::spawn(move || send_now(&one.0, &one.1, 1));
        let second = thread::spawn(move || send_now(&two.0, &two.1, 2));
        first.join().unwrap();
        second.join().unwrap();
        if shared.1.sent().len() < 2 {
            write(&shared.0, &shared.1, 2);
        }
        let mut sent = shared.1.sent();
        sent.sort_unstable();
        assert_eq!(sent, [1, 2]);
    });
}

/// Over a cheap link, a caller that finds the other sending leaves its frame to that one.
#[test]
fn whoever_sends_looks_again() {
    let mut model = loom::model::Builder::new();
    model.preemption_bound = Some(3);
    model.check(|| {
        let shared = Arc::new((SendQueue::new(2), CheapLink::default()));
        let callers = [1, 2].map(|content| {
            let shared = Arc::clone(&shared);
            thread::spawn(move || {
                shared.0.try_push(frame(content)).unwrap();
                let drained = shared.0.drain(&shared.1).unwrap();
                assert_ne!(drained, Drained::NoRoom);
            })
        });
        for caller in callers {
            caller.join().unwrap();
        }
        let mut sent = shared.1.0.sent();
        sent.sort_unstable();
        assert_eq!(sent, [1, 2]);
    });
}

/// A caller that waits for room gets it after a drain, or stops waiting once the queue is closed.
#[test]
fn drain_or_close_ends_waiting_for_room() {
    let mut model = loom::model::Builder::new();
    model.preemption_bound = Some(3);
    model.check(|| {
        let shared = Arc::new((SendQueue::new(1), RecordingLink::default()));
        shared.0.try_push(frame(0)).unwrap();
        let calling = Arc::clone(&shared);
        let caller = thread::spawn(move || block_on(calling.0.push(frame(1))));
        let ending = Arc::clone(&shared);
        let end = thread::spawn(move || ending.0.discard());
        let _ = shared.0.drain(&shared.1);
        caller.join().unwrap();
        end.join().unwrap();
        assert!(shared.0.ring.pop().is_none() || shared.0.is_closed.load(Ordering::SeqCst) == 1);
    });
}

/// Closing a connection wakes a writer task that waits for a request.
#[test]
fn closing_wakes_the_writer() {
    loom::model(|| {
        let send_queue = Arc::new(SendQueue::new(1));
        let ending = Arc::clone(&send_queue);
        let end = thread::spawn(move || ending.stop_writer());
        block_on(poll_fn(|cx| send_queue.poll_requested(cx)));
        end.join().unwrap();
    });
}
