use super::*;

#[test]
fn only_events_of_the_same_exchange_wait() {
    let order = ExchangeOrder::new("proxy".into());
    assert!(order.enter(1).is_none());
    order.hold(1);
    let mut second = order.enter(1).unwrap();
    let mut third = order.enter(1).unwrap();
    assert!(order.enter(2).is_none());
    assert!(order.is_held(1) && !order.is_held(2));
    order.release(1);
    assert!(second.try_recv().is_ok());
    assert!(third.try_recv().is_err());
    order.release(1);
    assert!(third.try_recv().is_ok());
    order.release(1);
    assert!(order.enter(1).is_none());
    assert_eq!(order.pending_exchanges.load(Ordering::Relaxed), 0);
}

#[test]
fn dropped_event_is_skipped() {
    let order = ExchangeOrder::new("proxy".into());
    order.hold(1);
    drop(order.enter(1));
    let mut third = order.enter(1).unwrap();
    order.release(1);
    assert!(third.try_recv().is_ok());
}
