use super::*;
use bolero::check;
use std::cell::{Cell, RefCell};

/// Memory that returns whatever a fuzzer says.
struct Lying<'a> {
    lies: RefCell<&'a [u8]>,
    size: u64,
}

impl Lying<'_> {
    fn lie(&self) -> u64 {
        let mut lies = self.lies.borrow_mut();
        let Some((word, rest)) = lies.split_first_chunk() else {
            *lies = &[];
            return 0;
        };
        *lies = rest;
        u64::from_le_bytes(*word)
    }
}

impl PeerMemory for Lying<'_> {
    fn size(&self) -> u64 {
        self.size
    }

    fn load(&self, _: Word) -> u64 {
        // Positions are near 0 at first, where impossible ones are as likely as others.
        self.lie() >> 44
    }

    fn append(&self, offset: usize, len: usize, into: &mut BytesMut) {
        assert!(offset + len <= self.size as usize, "outside of the ring");
        let byte = self.lie() as u8;
        into.extend((0..len).map(|_| byte));
    }
}

/// Memory of this side, whose words are not looked at.
struct Own {
    size: u64,
    stored: Cell<u64>,
}

impl OwnMemory for Own {
    fn size(&self) -> u64 {
        self.size
    }

    fn store(&self, _: Word, value: u64, _: Ordering) {
        self.stored.set(value);
    }
}

struct Ring(Vec<u8>);

impl OwnBytes for Ring {
    fn write(&mut self, offset: usize, bytes: &[u8]) {
        self.0[offset..offset + bytes.len()].copy_from_slice(bytes);
    }
}

/// Whatever a peer's words say, at any time, a reader takes no more than it asked for and reads
/// nothing outside of the ring, and an impossible position is an error.
#[test]
fn fuzz_ring_reader() {
    check!().for_each(|lies: &[u8]| {
        let peer = Lying {
            lies: RefCell::new(lies),
            size: 64 * 1024,
        };
        let own = Own {
            size: 64 * 1024,
            stored: Cell::new(0),
        };
        let mut reader = Reader::default();
        let mut into = BytesMut::new();
        while !peer.lies.borrow().is_empty() {
            into.clear();
            into.reserve(1024);
            let before = reader.position();
            match reader.take(&own, &peer, &mut into, 1024) {
                Ok(taken) => {
                    assert_eq!(taken.bytes, into.len());
                    assert!(taken.bytes <= 1024);
                    assert_eq!(reader.position(), before + taken.bytes as u64);
                }
                Err(ImpossiblePosition) => assert_eq!(reader.position(), before),
            }
            let _ = reader.goes_to_sleep(&own, &peer);
        }
    });
}

/// A writer overwrites nothing outside of the ring, whatever the peer says of what it has taken.
#[test]
fn fuzz_ring_writer() {
    check!().for_each(|lies: &[u8]| {
        let peer = Lying {
            lies: RefCell::new(lies),
            size: 64,
        };
        let own = Own {
            size: 64,
            stored: Cell::new(0),
        };
        let (mut writer, mut ring) = (Writer::default(), Ring(vec![0; 64]));
        while !peer.lies.borrow().is_empty() {
            let bytes = vec![1; peer.lie() as u8 as usize];
            if let Ok(written) = writer.write(&own, &mut ring, &peer, &bytes) {
                assert!(written <= 64.min(bytes.len()));
            }
            writer.publish(&own, &peer);
            let _ = writer.rewind(&own, &peer);
            let _ = writer.has_room_or_asks(&own, &peer);
        }
    });
}

/// Each position that is not within the ring is impossible.
#[test]
fn finds_impossible_positions() {
    struct Fixed(u64);
    impl PeerMemory for Fixed {
        fn size(&self) -> u64 {
            16
        }

        fn load(&self, _: Word) -> u64 {
            self.0
        }

        fn append(&self, _: usize, len: usize, into: &mut BytesMut) {
            into.extend((0..len).map(|_| 0));
        }
    }
    let own = Own {
        size: 16,
        stored: Cell::new(0),
    };
    let mut into = BytesMut::new();
    for head in [17, 18, u64::MAX / 2, u64::MAX] {
        let taken = Reader::default().take(&own, &Fixed(head), &mut into, 16);
        assert_eq!(taken, Err(ImpossiblePosition), "head {head}");
    }
    let mut reader = Reader::default();
    assert_eq!(
        reader.take(&own, &Fixed(16), &mut into, 16).unwrap().bytes,
        16
    );
    // The peer goes back.
    let back = reader.take(&own, &Fixed(15), &mut into, 16);
    assert_eq!(back, Err(ImpossiblePosition));
    // The peer has taken what was not written.
    let (mut writer, mut ring) = (Writer::default(), Ring(vec![0; 16]));
    let taken = writer.write(&own, &mut ring, &Fixed(1), &[0; 17]);
    assert_eq!(taken, Err(ImpossiblePosition));
}
