use super::peer::PeerKey;
use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

/// How often each peer may connect.
#[derive(Debug)]
pub(super) struct Pace {
    per_second: u32,
    peers: Mutex<HashMap<PeerKey, Bucket>>,
}

/// Peers that are remembered at once.
const MAX_PEERS: usize = 4096;

impl Pace {
    pub(super) fn new(per_second: u32) -> Self {
        Self {
            per_second: per_second.max(1),
            peers: Mutex::default(),
        }
    }

    /// Whether a peer may connect once more.
    pub(super) fn admits(&self, peer: PeerKey) -> bool {
        let now = Instant::now();
        // Nothing that holds the lock can leave the map half changed.
        let mut peers = self.peers.lock().unwrap_or_else(PoisonError::into_inner);
        if peers.len() >= MAX_PEERS && !peers.contains_key(&peer) {
            peers.retain(|_, bucket| !bucket.is_full(now));
        }
        if peers.len() >= MAX_PEERS && !peers.contains_key(&peer) {
            // So many peers at once: a limit for each means nothing, and none is to keep another out.
            peers.clear();
        }
        peers
            .entry(peer)
            .or_insert_with(|| Bucket::new(self.per_second, now))
            .take(now)
    }
}

/// Fills with time, and each use takes one out.
#[derive(Debug)]
pub(super) struct Bucket {
    per_second: f64,
    level: f64,
    at: Instant,
}

impl Bucket {
    pub(super) fn new(per_second: u32, now: Instant) -> Self {
        Self {
            per_second: per_second.into(),
            level: per_second.into(),
            at: now,
        }
    }

    pub(super) fn take(&mut self, now: Instant) -> bool {
        self.level = self.level_at(now);
        self.at = now;
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
        let gained = now.saturating_duration_since(self.at).as_secs_f64() * self.per_second;
        (self.level + gained).min(self.per_second)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn a_bucket_holds_a_second_and_fills_again() {
        let start = Instant::now();
        let mut bucket = Bucket::new(2, start);
        assert!(bucket.take(start) && bucket.take(start));
        assert!(!bucket.take(start));
        assert!(!bucket.take(start + Duration::from_millis(400)));
        assert!(bucket.take(start + Duration::from_millis(500)));
        let later = start + Duration::from_secs(60);
        assert!(bucket.is_full(later));
        assert!(bucket.take(later) && bucket.take(later) && !bucket.take(later));
    }

    #[test]
    fn one_peer_does_not_use_up_anothers_share() {
        let pace = Pace::new(1);
        assert!(pace.admits(PeerKey::User(1)));
        assert!(!pace.admits(PeerKey::User(1)));
        assert!(pace.admits(PeerKey::User(2)));
    }

    #[test]
    fn few_peers_are_remembered() {
        let pace = Pace::new(1);
        for uid in 0..3 * MAX_PEERS as u32 {
            assert!(pace.admits(PeerKey::User(uid)));
        }
        assert!(pace.peers.lock().unwrap().len() <= MAX_PEERS);
    }
}
