mod bombs;
mod encoded;
mod gzip;
mod properties;
mod windows;

use super::*;
use encoded::{FORMATS, Form, sample};

/// Limits that nothing in these tests exceeds, apart from bombs.
const UNLIMITED: DecodeLimits = DecodeLimits {
    max_ratio: u32::MAX,
    max_size: usize::MAX,
};

/// Decodes a body that arrives in pieces.
fn decode<'d>(
    coding: Coding,
    limits: DecodeLimits,
    pieces: impl IntoIterator<Item = &'d [u8]>,
) -> Result<Vec<u8>, CodingError> {
    let mut decoder = BodyDecoder::new(coding, limits);
    let mut out = Vec::new();
    for piece in pieces {
        decoder.push(piece, &mut out)?;
    }
    decoder.finish()?;
    Ok(out)
}

/// Decodes a body that arrives as a whole.
fn decode_whole(coding: Coding, body: &[u8]) -> Result<Vec<u8>, CodingError> {
    decode(coding, UNLIMITED, [body])
}

/// Decodes a body that arrives byte by byte.
fn decode_bytes(coding: Coding, body: &[u8]) -> Result<Vec<u8>, CodingError> {
    decode(coding, UNLIMITED, body.chunks(1))
}

#[test]
fn bodies_cut_at_any_byte_are_decoded() {
    let data = sample(600);
    for form in FORMATS {
        let body = form.encode(&data);
        assert_eq!(decode_bytes(form.coding(), &body).as_ref(), Ok(&data));
        for at in 0..=body.len() {
            let (first, second) = body.split_at(at);
            let decoded = decode(form.coding(), UNLIMITED, [first, second]);
            assert_eq!(decoded.as_ref(), Ok(&data), "{form:?} cut at {at}");
        }
    }
}

#[test]
fn large_bodies_are_decoded() {
    let data = sample(300_000);
    for form in FORMATS {
        let body = form.encode(&data);
        for len in [1, 777, body.len()] {
            let decoded = decode(form.coding(), UNLIMITED, body.chunks(len));
            assert!(decoded.as_ref() == Ok(&data), "{form:?} in pieces of {len}");
        }
    }
}

#[test]
fn matches_across_the_end_of_a_decoders_buffer_are_put_out() {
    // All input is read by then, while decoded bytes have no room in inflate's buffer of 32 KiB.
    for form in FORMATS {
        for data in (1..300).step_by(90).map(|more| vec![0; 32 * 1024 + more]) {
            let body = form.encode(&data);
            for at in 0..body.len() {
                let (first, second) = body.split_at(at);
                let decoded = decode(form.coding(), UNLIMITED, [first, second]);
                assert!(decoded.as_ref() == Ok(&data), "{form:?} {at}");
            }
        }
    }
}

#[test]
fn what_the_sender_flushed_is_put_out_at_once() {
    let events: [&[u8]; 3] = [b"data: 1\n\n", b"data: 2\n\n", b"data: 1\n\n"];
    for form in FORMATS {
        let mut decoder = BodyDecoder::new(form.coding(), DecodeLimits::default());
        let (flushed, end) = form.encode_flushed(&events);
        for (event, piece) in events.iter().zip(&flushed) {
            let mut out = Vec::new();
            for byte in piece.chunks(1) {
                decoder.push(byte, &mut out).unwrap();
            }
            assert_eq!(&out, event, "{form:?}");
        }
        let mut out = Vec::new();
        decoder.push(&end, &mut out).unwrap();
        assert_eq!((out.len(), decoder.finish()), (0, Ok(())), "{form:?}");
    }
}

#[test]
fn bodies_without_a_byte_are_empty() {
    for form in FORMATS {
        assert_eq!(decode(form.coding(), UNLIMITED, []), Ok(Vec::new()));
        assert_eq!(decode_whole(form.coding(), b""), Ok(Vec::new()));
        let body = form.encode(b"");
        assert_eq!(decode_whole(form.coding(), &body), Ok(Vec::new()));
        assert_eq!(decode_bytes(form.coding(), &body), Ok(Vec::new()));
    }
}

#[test]
fn truncated_bodies_fail_at_their_end() {
    for form in FORMATS {
        let body = form.encode(&sample(300));
        for len in 1..body.len() {
            let mut decoder = BodyDecoder::new(form.coding(), UNLIMITED);
            let mut out = Vec::new();
            assert_eq!(decoder.push(&body[..len], &mut out), Ok(()), "{form:?}");
            let finished = decoder.finish();
            assert_eq!(finished, Err(CodingError::Truncated), "{form:?} {len}");
        }
    }
}

#[test]
fn bytes_after_the_end_fail() {
    let trailing: [&[u8]; 4] = [b"\0", b"x", b"\x1f\0", b"<script>"];
    for form in FORMATS {
        let body = form.encode(&sample(300));
        for trailing in trailing {
            let whole = [&body[..], trailing].concat();
            for decoded in [
                decode_whole(form.coding(), &whole),
                decode_bytes(form.coding(), &whole),
                decode(form.coding(), UNLIMITED, [&body[..], trailing]),
            ] {
                let expected = Err(CodingError::TrailingData);
                assert_eq!(decoded, expected, "{form:?} {trailing:?}");
            }
        }
        if form != Form::Gzip {
            let twice = body.repeat(2);
            let decoded = decode_whole(form.coding(), &twice);
            assert_eq!(decoded, Err(CodingError::TrailingData), "{form:?}");
        }
    }
}

#[test]
fn changed_bits_never_pass_checksums() {
    let data = sample(300);
    for form in FORMATS.into_iter().filter(|form| form.has_checksum()) {
        let body = form.encode(&data);
        let mut failed = 0;
        for bit in 0..body.len() * 8 {
            let mut changed = body.clone();
            changed[bit / 8] ^= 1 << (bit % 8);
            match decode_whole(form.coding(), &changed) {
                Ok(decoded) => assert_eq!(decoded, data, "{form:?} bit {bit}"),
                Err(_) => failed += 1,
            }
        }
        // Only bits of a header, such as a time, may change.
        assert!(failed > (body.len() - 10) * 8, "{form:?} {failed}");
    }
}

#[test]
fn garbage_fails() {
    for form in FORMATS {
        for garbage in [&b"plain text, which is not encoded"[..], &[0xff; 40]] {
            let decoded = decode_whole(form.coding(), garbage);
            assert!(decoded.is_err(), "{form:?} {decoded:?}");
        }
    }
}

#[test]
fn errors_remain() {
    for form in FORMATS {
        let mut decoder = BodyDecoder::new(form.coding(), UNLIMITED);
        let mut out = Vec::new();
        let body = form.encode(b"data");
        decoder.push(&body, &mut out).unwrap();
        assert_eq!(decoder.push(b"x", &mut out), Err(CodingError::TrailingData));
        assert_eq!(decoder.push(b"", &mut out), Err(CodingError::TrailingData));
        assert_eq!(decoder.finish(), Err(CodingError::TrailingData));
    }
}

#[test]
fn decoders_move_between_threads() {
    fn check<T: Send>() {}
    check::<BodyDecoder>();
}
