use super::*;
use futures_util::FutureExt;

fn is_evicted(slot: &mut HandshakeSlot) -> bool {
    slot.evicted().now_or_never().is_some()
}

#[test]
fn oldest_slot_is_evicted() {
    let mut limiter = HandshakeLimiter::new(2);
    let (mut first, mut second) = (
        limiter.enter(PeerKey::Unknown),
        limiter.enter(PeerKey::Unknown),
    );
    assert!(!is_evicted(&mut first) && !is_evicted(&mut second));
    let mut third = limiter.enter(PeerKey::Unknown);
    assert!(is_evicted(&mut first));
    assert!(!is_evicted(&mut second) && !is_evicted(&mut third));
}

#[test]
fn peer_with_most_slots_loses_one() {
    let mut limiter = HandshakeLimiter::new(4);
    let mut single = limiter.enter(PeerKey::Process(1));
    let mut slots = [2, 2, 3].map(|process| limiter.enter(PeerKey::Process(process)));
    let mut new = limiter.enter(PeerKey::Process(3));
    assert!(is_evicted(&mut slots[0]));
    assert!(!is_evicted(&mut single) && !is_evicted(&mut slots[1]));
    let _newer = limiter.enter(PeerKey::Process(3));
    assert!(is_evicted(&mut slots[2]) && !is_evicted(&mut new));
}

#[test]
fn evicted_connection_is_awaited() {
    let mut limiter = HandshakeLimiter::new(2);
    drop(limiter.enter(PeerKey::Unknown));
    let mut open = limiter.enter(PeerKey::Unknown);
    let mut released = Box::pin(limiter.evict_one().expect("a connection"));
    assert!(is_evicted(&mut open));
    assert!((&mut released).now_or_never().is_none());
    drop(open);
    assert!(released.now_or_never().is_some());
    assert!(limiter.evict_one().is_none());
}

#[test]
fn dropped_slots_are_free() {
    let mut limiter = HandshakeLimiter::new(2);
    let (mut first, second) = (
        limiter.enter(PeerKey::Unknown),
        limiter.enter(PeerKey::Unknown),
    );
    drop(second);
    let mut third = limiter.enter(PeerKey::Unknown);
    assert!(!is_evicted(&mut first) && !is_evicted(&mut third));
    (0..100).for_each(|_| drop(limiter.enter(PeerKey::Unknown)));
    assert!(limiter.slots.len() <= 2);
}
