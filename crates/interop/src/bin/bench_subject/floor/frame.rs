//! Frames: a prefix, which begins with the length of the payload in four bytes, and the payload.

use bytes::Bytes;

const LENGTH: usize = 4;

/// Length of tollgate's frame header: length, type and stream id.
const PREFIX: usize = 13;

/// Creates a frame with `payload`.
pub(super) fn of(payload: &[u8]) -> Bytes {
    let length = u32::try_from(payload.len()).expect("payloads are small");
    let mut prefix = [0; PREFIX];
    prefix[..LENGTH].copy_from_slice(&length.to_be_bytes());
    [&prefix[..], payload].concat().into()
}

/// Counts frames in a stream without keeping them.
#[derive(Default)]
pub(super) struct Counter {
    prefix: [u8; PREFIX],
    prefix_read: usize,
    payload_left: usize,
}

impl Counter {
    /// Counts the frames that end in the received bytes.
    pub(super) fn ended(&mut self, mut received: &[u8]) -> usize {
        let mut ended = 0;
        while !received.is_empty() {
            received = self.read_prefix(received);
            if self.prefix_read < PREFIX {
                break;
            }
            let taken = self.payload_left.min(received.len());
            received = &received[taken..];
            self.payload_left -= taken;
            if self.payload_left == 0 {
                ended += 1;
                self.prefix_read = 0;
            }
        }
        ended
    }

    fn read_prefix<'a>(&mut self, received: &'a [u8]) -> &'a [u8] {
        if self.prefix_read == PREFIX {
            return received;
        }
        let missing = &mut self.prefix[self.prefix_read..];
        let taken = missing.len().min(received.len());
        let (prefix, rest) = received.split_at(taken);
        missing[..taken].copy_from_slice(prefix);
        self.prefix_read += taken;
        if self.prefix_read == PREFIX {
            let [a, b, c, d, ..] = self.prefix;
            self.payload_left = u32::from_be_bytes([a, b, c, d]) as usize;
        }
        rest
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_are_counted_however_the_stream_is_cut() {
        let stream = [of(b"one"), of(b"a longer one"), of(b"3")].concat();
        for piece in 1..=stream.len() {
            let mut counter = Counter::default();
            let ended: usize = stream.chunks(piece).map(|cut| counter.ended(cut)).sum();
            assert_eq!(ended, 3, "cut every {piece} bytes");
        }
    }
}
