use super::*;
use std::task::Waker;

fn poll<T>(ticket: &mut Ticket<&SlotTable<T>, T>) -> Poll<T> {
    ticket.poll(&Context::from_waker(Waker::noop()))
}

#[test]
fn ids_are_compared_even_if_keys_are_equal() {
    let (table, mut completer) = SlotTable::new(4, Matching::ById, []);
    let mut a = SlotTable::open(&*table, "a", 1, 0).unwrap();
    assert_eq!(completer.complete("b", 1, 7), Err(7));
    assert_eq!(poll(&mut a), Poll::Pending);
    assert_eq!(completer.complete("a", 1, 8), Ok(()));
    assert_eq!(completer.complete("a", 1, 9), Err(9));
    assert_eq!(poll(&mut a), Poll::Ready(8));
    drop(a);
    assert_eq!(completer.complete("a", 1, 10), Err(10));
    assert_eq!(table.pending(), 0);
}

#[test]
fn a_full_table_rejects_calls_until_a_slot_is_free() {
    let (table, _completer) = SlotTable::<u8>::new(2, Matching::ById, []);
    let first = SlotTable::open(&*table, "a", 1, 0).unwrap();
    let _second = SlotTable::open(&*table, "b", 2, 0).unwrap();
    assert_eq!(
        SlotTable::open(&*table, "c", 3, 0).unwrap_err(),
        OpenError::Full
    );
    drop(first);
    assert!(SlotTable::open(&*table, "c", 3, 0).is_ok());
}

#[test]
fn a_second_call_with_the_same_id_is_rejected() {
    let (table, _completer) = SlotTable::<u8>::new(2, Matching::ById, []);
    let first = SlotTable::open(&*table, "a", 1, 0).unwrap();
    assert_eq!(
        SlotTable::open(&*table, "a", 1, 0).unwrap_err(),
        OpenError::SameId
    );
    assert_eq!(table.pending(), 1);
    drop(first);
    assert!(SlotTable::open(&*table, "a", 1, 0).is_ok());
}

#[test]
fn only_calls_past_their_deadline_expire() {
    let (table, mut completer) = SlotTable::new(70, Matching::ById, []);
    let mut tickets: Vec<_> = (0..70)
        .map(|n| SlotTable::open(&*table, &n.to_string(), n, n).unwrap())
        .collect();
    assert_eq!(completer.expire(9, |_| 1), 10);
    for (n, ticket) in tickets.iter_mut().enumerate() {
        assert_eq!(poll(ticket).is_ready(), n < 10);
    }
    assert_eq!(completer.complete_all(|id| id.len()), 60);
}

#[test]
fn the_waiting_task_is_woken() {
    use futures_util::task::{ArcWake, waker};
    use std::sync::atomic::{AtomicUsize, Ordering};

    #[derive(Default)]
    struct Wakes(AtomicUsize);
    impl ArcWake for Wakes {
        fn wake_by_ref(wakes: &Arc<Self>) {
            wakes.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    let wakes = Arc::new(Wakes::default());
    let (table, mut completer) = SlotTable::new(1, Matching::ById, []);
    let mut ticket = SlotTable::open(&*table, "a", 1, 0).unwrap();
    let waker = waker(Arc::clone(&wakes));
    assert!(ticket.poll(&Context::from_waker(&waker)).is_pending());
    completer.complete("a", 1, ()).unwrap();
    assert_eq!(wakes.0.load(Ordering::Relaxed), 1);
}

#[test]
fn an_ended_call_keeps_no_waker() {
    use futures_util::task::{ArcWake, waker};

    struct Task;
    impl ArcWake for Task {
        fn wake_by_ref(_: &Arc<Self>) {}
    }

    let task = Arc::new(Task);
    let (table, mut completer) = SlotTable::new(1, Matching::ById, []);
    let pending = || {
        let mut ticket = SlotTable::open(&*table, "a", 1, 0).unwrap();
        let waker = waker(Arc::clone(&task));
        assert!(ticket.poll(&Context::from_waker(&waker)).is_pending());
        ticket
    };
    let wakers = || Arc::strong_count(&task) - 1;
    drop(pending());
    assert_eq!(wakers(), 0);

    let answered = pending();
    completer.complete("a", 1, ()).unwrap();
    drop(answered);
    assert_eq!(wakers(), 0);

    let mut dropped_while_claimed = Some(pending());
    completer.complete_all(|_| drop(dropped_while_claimed.take()));
    assert_eq!(wakers(), 0);
}

#[test]
fn calls_on_streams_may_share_an_id() {
    let (table, mut completer) = SlotTable::new(4, Matching::ByStream, []);
    let mut tickets: Vec<_> = (0..4)
        .map(|_| SlotTable::open(&*table, "a", 1, 0).unwrap())
        .collect();
    assert!(table.accepts_key(1));
    for (n, ticket) in tickets.iter_mut().enumerate().rev() {
        assert_eq!(completer.complete_stream(ticket.stream(), n), Ok(()));
        assert_eq!(completer.complete_stream(ticket.stream(), 9), Err(9));
        assert_eq!(poll(ticket), Poll::Ready(n));
    }
    tickets.clear();
    let _again = SlotTable::open(&*table, "a", 1, 0).unwrap();
    for unknown in [0, 4, u64::MAX] {
        assert!(!completer.has_seen(StreamId(unknown)));
        assert_eq!(completer.complete_stream(StreamId(unknown), 9), Err(9));
    }
}

#[test]
fn every_call_with_an_id_is_completed() {
    let (table, mut completer) = SlotTable::new(4, Matching::ByStream, []);
    let [mut first, mut other, mut second] =
        ["a", "b", "a"].map(|id| SlotTable::open(&*table, id, 1, 0).unwrap());
    assert_eq!(completer.complete_each("a", 1, || 7), 2);
    assert_eq!(poll(&mut first), Poll::Ready(7));
    assert_eq!(poll(&mut second), Poll::Ready(7));
    assert_eq!(poll(&mut other), Poll::Pending);
}
