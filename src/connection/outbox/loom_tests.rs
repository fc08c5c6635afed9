//! Every interleaving of a few threads on one outbox, checked by loom (`scripts/loom`).

use super::*;
use loom::future::block_on;
use loom::sync::Mutex as CheckedMutex;
use loom::thread;
use std::future::poll_fn;
use std::sync::Arc;

/// A link that notes the first byte of every frame that it sends.
#[derive(Default)]
struct Noting(CheckedMutex<Vec<u8>>);

impl Noting {
    fn sent(&self) -> Vec<u8> {
        self.0.lock().unwrap().clone()
    }
}

impl LinkSender for Noting {
    fn try_send(&self, batch: &mut Batch, recycle: &dyn Fn(Vec<u8>)) -> io::Result<()> {
        while !batch.is_empty() {
            let mut slices = [io::IoSlice::new(&[])];
            batch.fill(&mut slices);
            self.0.lock().unwrap().push(slices[0][0]);
            let sent = slices[0].len();
            batch.advance(sent, recycle);
        }
        Ok(())
    }

    fn poll_room(&self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn close(&self) {}
}

fn frame(content: u8) -> OutgoingFrame {
    OutgoingFrame {
        written: vec![content],
        body: bytes::Bytes::new(),
    }
}

/// The writer as `run_writer` goes round: returns once it has seen `count` frames sent.
fn write(outbox: &Outbox, link: &Noting, count: usize) {
    while link.sent().len() < count {
        block_on(poll_fn(|cx| outbox.poll_requested(cx)));
        outbox.take_request();
        while matches!(outbox.drain(link), Ok(Drained::Busy)) {
            thread::yield_now();
        }
    }
}

/// A caller that sends by itself, as a lone one does.
fn send_now(outbox: &Outbox, link: &Noting, content: u8) {
    outbox.try_push(frame(content)).unwrap();
    if !matches!(outbox.drain(link), Ok(Drained::Empty)) {
        outbox.request_writer();
    }
}

/// A frame that is left to the writer is sent, whenever that looks.
#[test]
fn the_writer_misses_no_request() {
    loom::model(|| {
        let shared = Arc::new((Outbox::new(2), Noting::default()));
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

/// Two callers that both want to send at once: whoever finds the other sending leaves its frame to the writer.
#[test]
fn no_frame_stays_behind() {
    let mut model = loom::model::Builder::new();
    model.preemption_bound = Some(3);
    model.check(|| {
        let shared = Arc::new((Outbox::new(2), Noting::default()));
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

/// A caller that waits for room gets it from whoever drains, or leaves when the connection is over.
#[test]
fn nobody_waits_for_room_for_ever() {
    let mut model = loom::model::Builder::new();
    model.preemption_bound = Some(3);
    model.check(|| {
        let shared = Arc::new((Outbox::new(1), Noting::default()));
        shared.0.try_push(frame(0)).unwrap();
        let calling = Arc::clone(&shared);
        let caller = thread::spawn(move || block_on(calling.0.push(frame(1))));
        let ending = Arc::clone(&shared);
        let end = thread::spawn(move || ending.0.discard());
        let _ = shared.0.drain(&shared.1);
        caller.join().unwrap();
        end.join().unwrap();
        assert!(shared.0.ring.pop().is_none() || shared.0.over.load(Ordering::SeqCst) == 1);
    });
}

/// The end of a connection reaches a writer that waits for work.
#[test]
fn the_writer_learns_of_the_end() {
    loom::model(|| {
        let outbox = Arc::new(Outbox::new(1));
        let ending = Arc::clone(&outbox);
        let end = thread::spawn(move || ending.stop_writer());
        block_on(poll_fn(|cx| outbox.poll_requested(cx)));
        end.join().unwrap();
    });
}
