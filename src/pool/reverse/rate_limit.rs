//! Limits how often peers may connect.

use crate::clock;
use crate::lock::lock;
use crate::token_bucket::{Rate, TokenBucket};
use crate::transport::PeerKey;
use std::collections::HashMap;
use std::sync::Mutex;

/// Peers that are tracked at once.
const MAX_PEERS: usize = 4096;

/// Limits how often each peer may connect.
#[derive(Debug)]
pub(super) struct RateLimiter {
    rate: Rate,
    peers: Mutex<HashMap<PeerKey, TokenBucket>>,
}

impl RateLimiter {
    pub(super) fn new(per_second: u32) -> Self {
        Self {
            rate: Rate::per_second(per_second.max(1)),
            peers: Mutex::default(),
        }
    }

    /// Takes one connection from a peer's limit. Returns `false` if the limit is used up.
    pub(super) fn try_acquire(&self, peer: PeerKey) -> bool {
        let now = clock::now();
        let mut peers = lock(&self.peers);
        if peers.len() >= MAX_PEERS && !peers.contains_key(&peer) {
            peers.retain(|_, bucket| !bucket.is_full(self.rate, now));
        }
        if peers.len() >= MAX_PEERS && !peers.contains_key(&peer) {
            // With this many active peers a limit for each is pointless. Forgetting all of them
            // keeps none out.
            peers.clear();
        }
        peers
            .entry(peer)
            .or_insert_with(|| TokenBucket::new(self.rate, now))
            .try_take(self.rate, now)
    }
}

#[cfg(test)]
#[path = "../../../tests/unit/pool/reverse/rate_limit.rs"]
mod tests;
