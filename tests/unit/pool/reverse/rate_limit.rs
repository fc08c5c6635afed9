use super::*;

#[test]
fn peers_have_separate_limits() {
    let limiter = RateLimiter::new(1);
    assert!(limiter.try_acquire(PeerKey::User(1)));
    assert!(!limiter.try_acquire(PeerKey::User(1)));
    assert!(limiter.try_acquire(PeerKey::User(2)));
}

#[test]
fn number_of_peers_is_bounded() {
    let limiter = RateLimiter::new(1);
    for uid in 0..3 * MAX_PEERS as u32 {
        assert!(limiter.try_acquire(PeerKey::User(uid)));
    }
    assert!(limiter.peers.lock().unwrap().len() <= MAX_PEERS);
}
