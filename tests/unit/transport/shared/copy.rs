use super::*;

/// Copies of every length and alignment are exact, and nothing else is written.
#[test]
fn copies_every_length_from_every_alignment() {
    let source: Vec<u8> = (0..LONG + 64).map(|at| (at * 7 % 251) as u8).collect();
    for from in 0..16 {
        for len in (0..=64).chain(LONG - 9..=source.len() - from) {
            let mut into = BytesMut::from(&b"before"[..]);
            into.reserve(len);
            // SAFETY: the bytes are within the vector, which nobody writes.
            unsafe { append(source.as_ptr().add(from), len, &mut into) };
            assert_eq!(into[..6], b"before"[..]);
            assert_eq!(into[6..], source[from..from + len]);
        }
    }
}

#[test]
#[should_panic(expected = "out of range")]
fn panics_without_room() {
    let mut into = BytesMut::new();
    // SAFETY: the bytes are static.
    unsafe { append(b"bytes".as_ptr(), 5, &mut into) };
}
