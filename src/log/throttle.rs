//! Limits how many lines peers cause.

use super::text::cut;
use crate::token_bucket::{Rate, TokenBucket};
use std::collections::HashMap;
use std::time::{Duration, Instant};

/// Lines of one kind about one peer.
const OF_PEER: Rate = Rate {
    burst: 5.0,
    per_second: 0.1,
};

/// Lines of one kind about all peers, so that no peer gets more lines by changing its name.
const OF_ALL: Rate = Rate {
    burst: 100.0,
    per_second: 10.0,
};

/// Peers that are tracked at once. Those beyond it share one entry.
const MAX_PEERS: usize = 1024;

/// Maximum length of a peer's name, in bytes. Longer names share entries.
const MAX_NAME: usize = 128;

/// Name of the entry that peers beyond [`MAX_PEERS`] share.
const OTHERS: &str = "others";

/// Counts lines by peer and kind.
#[derive(Debug, Default)]
pub(super) struct Throttle {
    peers: HashMap<Box<str>, Kinds>,
    all: Kinds,
    /// Time when quiet peers were last looked for.
    searched: Option<Instant>,
}

/// Lines of each kind that was logged. There are few kinds: as many as places that log.
#[derive(Debug, Default)]
struct Kinds(Vec<(&'static str, Lines)>);

#[derive(Debug)]
struct Lines {
    bucket: TokenBucket,
    left_out: u64,
}

impl Throttle {
    /// See [`admit`](super::admit).
    pub(super) fn admit(&mut self, kind: &'static str, peer: &str, now: Instant) -> Option<u64> {
        if peer.len() > MAX_NAME {
            return self.admit(kind, &cut(peer, MAX_NAME - '\u{2026}'.len_utf8()), now);
        }
        if !self.peers.contains_key(peer) {
            self.forget_quiet_peers(now);
            if self.peers.len() >= MAX_PEERS && peer != OTHERS {
                return self.admit(kind, OTHERS, now);
            }
            self.peers.insert(peer.into(), Kinds::default());
        }
        let lines = self.peers.get_mut(peer)?.lines(kind, OF_PEER, now);
        let all = self.all.lines(kind, OF_ALL, now);
        if lines.bucket.try_take(OF_PEER, now) && all.bucket.try_take(OF_ALL, now) {
            return Some(std::mem::take(&mut lines.left_out));
        }
        lines.left_out += 1;
        None
    }

    /// Makes room for another peer, but looks for quiet ones only once per second.
    fn forget_quiet_peers(&mut self, now: Instant) {
        let is_due = self
            .searched
            .is_none_or(|last| now.saturating_duration_since(last) >= Duration::from_secs(1));
        if self.peers.len() >= MAX_PEERS && is_due {
            self.searched = Some(now);
            self.peers.retain(|_, kinds| !kinds.are_quiet(now));
        }
    }
}

impl Kinds {
    fn lines(&mut self, kind: &'static str, rate: Rate, now: Instant) -> &mut Lines {
        let known = self.0.iter().position(|(known, _)| *known == kind);
        let at = known.unwrap_or_else(|| {
            let bucket = TokenBucket::new(rate, now);
            let lines = Lines {
                bucket,
                left_out: 0,
            };
            self.0.push((kind, lines));
            self.0.len() - 1
        });
        &mut self.0[at].1
    }

    fn are_quiet(&self, now: Instant) -> bool {
        let mut lines = self.0.iter().map(|(_, lines)| lines);
        lines.all(|lines| lines.bucket.is_full(OF_PEER, now))
    }
}

#[cfg(test)]
#[path = "../../tests/unit/log/throttle.rs"]
mod tests;
