//! Tests of every interleaving of a few threads on one table, by loom (`scripts/loom`).

use super::*;
use loom::future::block_on;
use loom::thread;
use std::future::poll_fn;

/// The answer to a call arrives, whenever the caller polls.
#[test]
fn an_answer_is_never_lost() {
    loom::model(|| {
        let (table, mut completer) = SlotTable::new(1, Matching::ById, []);
        let mut ticket = SlotTable::open(&*table, "a", 1, 0).unwrap();
        let answering = thread::spawn(move || completer.complete("a", 1, 7).unwrap());
        assert_eq!(block_on(poll_fn(|cx| ticket.poll(cx))), 7);
        answering.join().unwrap();
    });
}

/// A slot can be used again after its ticket was dropped while the answer arrived.
#[test]
fn a_slot_is_reusable_after_its_ticket_is_dropped() {
    loom::model(|| {
        let (table, mut completer) = SlotTable::new(1, Matching::ById, []);
        let ticket = SlotTable::open(&*table, "a", 1, 0).unwrap();
        let answering = thread::spawn(move || {
            let _ = completer.complete("a", 1, Box::new(7));
            completer
        });
        drop(ticket);
        let mut completer = answering.join().unwrap();
        assert_eq!(table.pending(), 0);
        let mut ticket = SlotTable::open(&*table, "b", 2, 0).unwrap();
        completer.complete("b", 2, Box::new(8)).unwrap();
        assert_eq!(*block_on(poll_fn(|cx| ticket.poll(cx))), 8);
    });
}

/// The answer to one call never reaches the next one in the same slot.
#[test]
fn an_answer_never_reaches_another_call() {
    loom::model(|| {
        let (table, mut completer) = SlotTable::new(1, Matching::ById, []);
        let first = SlotTable::open(&*table, "a", 1, 0).unwrap();
        let answering = thread::spawn(move || {
            let _ = completer.complete("a", 1, 7);
            completer
        });
        drop(first);
        if let Ok(mut second) = SlotTable::open(&*table, "b", 1, 0) {
            let mut completer = answering.join().unwrap();
            completer.complete("b", 1, 8).unwrap();
            assert_eq!(block_on(poll_fn(|cx| second.poll(cx))), 8);
        } else {
            answering.join().unwrap();
        }
    });
}

/// A call that its caller answers while it expires has one end, and its slot can be used again.
#[test]
fn a_call_that_its_caller_answers_ends_once() {
    loom::model(|| {
        let (table, mut completer) = SlotTable::new(1, Matching::ByStream, []);
        let mut ticket = SlotTable::open(&*table, "a", 1, 0).unwrap();
        let expiring = thread::spawn(move || completer.expire(0, |_| Box::new(1)));
        let filled = ticket.fill(0, Box::new(2)).is_ok();
        let end = *block_on(poll_fn(|cx| ticket.poll(cx)));
        let expired = expiring.join().unwrap();
        assert_eq!((end, expired), if filled { (2, 0) } else { (1, 1) });
        assert_eq!(table.pending(), 0);
    });
}

/// A caller that answers its call is not disturbed by the expiry of the call before in its slot.
#[test]
fn a_late_expiry_does_not_keep_a_caller_from_answering() {
    loom::model(|| {
        let (table, mut completer) = SlotTable::new(1, Matching::ByStream, []);
        let first = SlotTable::open(&*table, "a", 1, 0).unwrap();
        let expiring = thread::spawn(move || completer.expire(0, |_| 1));
        drop(first);
        if let Ok(mut second) = SlotTable::open(&*table, "b", 2, 9) {
            second.fill(0, 2).unwrap();
            assert_eq!(block_on(poll_fn(|cx| second.poll(cx))), 2);
        }
        expiring.join().unwrap();
    });
}

/// Of two concurrent callers with the same id, at most one gets a slot.
#[test]
fn two_calls_never_share_an_id() {
    loom::model(|| {
        let (table, _completer) = SlotTable::<u8>::new(2, Matching::ById, []);
        let other = Arc::clone(&table);
        let opening = thread::spawn(move || {
            let opened = SlotTable::open(&*other, "a", 1, 0);
            opened.map(std::mem::forget).is_ok()
        });
        let opened = SlotTable::open(&*table, "a", 1, 0)
            .map(std::mem::forget)
            .is_ok();
        assert!(!(opened && opening.join().unwrap()));
    });
}

/// A call that expires while another call takes over its slot does not expire that one.
#[test]
fn expiry_never_hits_the_next_call() {
    loom::model(|| {
        let (table, mut completer) = SlotTable::new(1, Matching::ById, []);
        let first = SlotTable::open(&*table, "a", 1, 1).unwrap();
        let expiring = thread::spawn(move || completer.expire(1, |_| 0));
        drop(first);
        if let Ok(mut second) = SlotTable::open(&*table, "b", 2, 5) {
            expiring.join().unwrap();
            let waker = futures_util::task::noop_waker();
            assert!(second.poll(&Context::from_waker(&waker)).is_pending());
        } else {
            expiring.join().unwrap();
        }
    });
}

/// Where answers are matched by stream, two calls may have the same id. A late answer to the first
/// never reaches the next call in its slot.
#[test]
fn an_answer_stays_on_its_stream() {
    loom::model(|| {
        let (table, mut completer) = SlotTable::new(1, Matching::ByStream, []);
        let first = SlotTable::open(&*table, "a", 1, 0).unwrap();
        let stream = first.stream();
        let answering = thread::spawn(move || {
            let _ = completer.complete_stream(stream, 7);
            completer
        });
        drop(first);
        if let Ok(mut second) = SlotTable::open(&*table, "a", 1, 0) {
            let mut completer = answering.join().unwrap();
            assert!(completer.has_seen(stream));
            completer.complete_stream(second.stream(), 8).unwrap();
            assert_eq!(block_on(poll_fn(|cx| second.poll(cx))), 8);
        } else {
            answering.join().unwrap();
        }
    });
}
