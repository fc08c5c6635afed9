use super::*;

fn offer(versions: &[u64], bytes: u64) -> SharedMemoryOffer {
    SharedMemoryOffer {
        versions: versions.to_vec(),
        bytes,
    }
}

/// Sizes that are no powers of two, or out of bounds, and unknown layouts are declined.
#[test]
fn accepts_known_layouts_and_sizes_only() {
    assert_eq!(offer(&[1], 64 * 1024).bytes(), Some(64 * 1024));
    assert_eq!(offer(&[2, 1], 16 * 1024).bytes(), Some(16 * 1024));
    assert_eq!(offer(&[1], 4 * 1024 * 1024).bytes(), Some(4 * 1024 * 1024));
    for (versions, bytes) in [
        (&[2][..], 64 * 1024),
        (&[], 64 * 1024),
        (&[1], 0),
        (&[1], 8 * 1024),
        (&[1], 64 * 1024 + 1),
        (&[1], 8 * 1024 * 1024),
        (&[1], u64::MAX),
    ] {
        assert_eq!(offer(versions, bytes).bytes(), None, "{versions:?} {bytes}");
    }
}

/// Whatever size is configured, an offer is one that the peer accepts.
#[test]
fn offers_are_accepted() {
    for bytes in [0, 1, 16 * 1024, 100_000, 4 * 1024 * 1024, usize::MAX] {
        let accepted = SharedMemoryOffer::new(bytes).bytes();
        assert!(accepted.is_some(), "{bytes}");
        assert!(accepted >= Some(bytes.min(4 * 1024 * 1024)), "{bytes}");
    }
}
