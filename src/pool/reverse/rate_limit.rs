//! Limits how often peers may connect.

use crate::clock;
use crate::transport::PeerKey;
use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

/// Peers that are tracked at once.
const MAX_PEERS: usize = 4096;

/// Limits how often each peer may connect.
#[derive(Debug)]
pub(super) struct RateLimiter {
    per_second: u32,
    peers: Mutex<HashMap<PeerKey, TokenBucket>>,
}

impl RateLimiter {
    pub(super) fn new(per_second: u32) -> Self {
        Self {
            per_second: per_second.max(1),
            peers: Mutex::default(),
        }
    }

    /// Takes one connection from a peer's limit. Returns `false` if the limit is used up.
    pub(super) fn try_acquire(&self, peer: PeerKey) -> bool {
        let now = clock::now();
        // A poisoned lock is usable: no panic can leave the map inconsistent.
        let mut peers = self.peers.lock().unwrap_or_else(PoisonError::into_inner);
        if peers.len() >= MAX_PEERS && !peers.contains_key(&peer) {
            peers.retain(|_, bucket| !bucket.is_full(now));
        }
        if peers.len() >= MAX_PEERS && !peers.contains_key(&peer) {
            // With this many active peers a limit for each is pointless. Forgetting all of them
            // keeps none out.
            peers.clear();
        }
        peers
            .entry(peer)
            .or_insert_with(|| TokenBucket::new(self.per_second, now))
            .try_take(now)
    }
}

/// A token bucket that holds the tokens of one second.
#[derive(Debug)]
pub(super) struct TokenBucket {
    per_second: f64,
    level: f64,
    updated: Instant,
}

impl TokenBucket {
    pub(super) fn new(per_second: u32, now: Instant) -> Self {
        Self {
            per_second: per_second.into(),
            level: per_second.into(),
            updated: now,
        }
    }

    pub(super) fn try_take(&mut self, now: Instant) -> bool {
        self.level = self.level_at(now);
        self.updated = now;
        let has_one = self.level >= 1.0;
        if has_one {
            self.level -= 1.0;
        }
        has_one
    }

    fn is_full(&self, now: Instant) -> bool {
        self.level_at(now) >= self.per_second
    }

    fn level_at(&self, now: Instant) -> f64 {
        let gained = now.saturating_duration_since(self.updated).as_secs_f64() * self.per_second;
        (self.level + gained).min(self.per_second)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn bucket_holds_one_second_and_refills() {
        let start = Instant::now();
        let mut bucket = TokenBucket::new(2, start);
        assert!(bucket.try_take(start) && bucket.try_take(start));
        assert!(!bucket.try_take(start));
        assert!(!bucket.try_take(start + Duration::from_millis(400)));
        assert!(bucket.try_take(start + Duration::from_millis(500)));
        let later = start + Duration::from_secs(60);
        assert!(bucket.is_full(later));
        assert!(bucket.try_take(later) && bucket.try_take(later) && !bucket.try_take(later));
    }

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
}
