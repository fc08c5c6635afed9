//! Bodies that decode to more than the limits allow.

use super::*;
use allocation_counter::measure;
use flate2::Compression;
use flate2::write::GzEncoder;
use std::io::Write;

const MIB: usize = 1024 * 1024;
const GIB: usize = 1024 * MIB;

/// Memory that a decoder may take for itself, apart from C code. Brotli's window is the largest.
const OWN_MEMORY: u64 = 18 * MIB as u64;

/// Without a limit of the ratio.
fn up_to(max_size: usize) -> DecodeLimits {
    DecodeLimits {
        max_ratio: u32::MAX,
        max_size,
    }
}

/// Decodes zeros that are encoded as they are decoded. Returns how many bytes were put out, and how
/// many had been encoded when decoding failed.
fn decode_zeros_by_gzip(limits: DecodeLimits) -> (usize, usize) {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    let mut decoder = BodyDecoder::new(Coding::Gzip, limits);
    let mut out = Vec::new();
    let zeros = [0; 64 * 1024];
    for encoded in (0..GIB).step_by(zeros.len()) {
        encoder.write_all(&zeros).unwrap();
        let piece = std::mem::take(encoder.get_mut());
        if let Err(error) = decoder.push(&piece, &mut out) {
            assert_eq!(error, CodingError::TooLarge);
            assert!(out.capacity() <= limits.max_size + PIECE_LEN);
            return (out.len(), encoded);
        }
    }
    panic!("a gibibyte was decoded");
}

#[test]
fn gigabyte_of_zeros_fails_at_the_limit() {
    let max_size = 2 * MIB;
    let mut result = (0, 0);
    let allocated = measure(|| result = decode_zeros_by_gzip(up_to(max_size)));
    let (put_out, encoded) = result;
    assert!(put_out <= max_size && put_out > max_size - PIECE_LEN);
    // The encoder runs ahead of the decoder, but not by far.
    assert!(encoded < GIB / 16, "{encoded}");
    // The two last buffers of `out` exist at a time while it grows. Besides there are the encoder
    // and the decoder, whose size depends on the backend that flate2 is built with.
    let allowed = (2 * max_size + 2 * MIB) as u64;
    assert!(allocated.bytes_max <= allowed, "{}", allocated.bytes_max);
}

#[test]
fn default_ratio_stops_bombs_early() {
    let (put_out, _) = decode_zeros_by_gzip(DecodeLimits::default());
    assert!(put_out <= 64 * 1024, "{put_out}");
}

#[test]
fn bombs_in_one_piece_fail_at_the_limit() {
    let max_size = MIB;
    let zeros = vec![0; 16 * MIB];
    for form in FORMATS {
        let body = form.encode(&zeros);
        let allocated = measure(|| {
            let mut decoder = BodyDecoder::new(form.coding(), up_to(max_size));
            let mut out = Vec::new();
            let pushed = decoder.push(&body, &mut out);
            assert_eq!(pushed, Err(CodingError::TooLarge), "{form:?}");
            assert!(out.len() <= max_size && out.len() > max_size - PIECE_LEN);
            assert!(out.capacity() <= max_size + PIECE_LEN);
        });
        let allowed = 2 * max_size as u64 + OWN_MEMORY;
        assert!(allocated.bytes_max <= allowed, "{form:?} {allocated:?}");
    }
}

#[test]
fn size_may_equal_the_limit() {
    let data = sample(40_000);
    for form in FORMATS {
        let body = form.encode(&data);
        let decoded = |max_size| decode(form.coding(), up_to(max_size), [&body[..]]);
        assert!(decoded(data.len()).as_ref() == Ok(&data), "{form:?}");
        let exceeded = decoded(data.len() - 1);
        assert_eq!(exceeded, Err(CodingError::TooLarge), "{form:?}");
    }
}

#[test]
fn ratio_counts_from_64_kib_on() {
    for form in FORMATS {
        let decoded = |len, max_ratio| {
            let limits = DecodeLimits {
                max_ratio,
                max_size: GIB,
            };
            let body = form.encode(&vec![b'a'; len]);
            decode(form.coding(), limits, [&body[..]]).map(|data| data.len())
        };
        assert_eq!(decoded(64 * 1024, 1), Ok(64 * 1024), "{form:?}");
        let exceeded = decoded(64 * 1024 + 1, 1);
        assert_eq!(exceeded, Err(CodingError::TooLarge), "{form:?}");
        assert_eq!(decoded(MIB, 1_000_000), Ok(MIB), "{form:?}");
    }
}

#[test]
fn data_that_is_hardly_compressed_keeps_within_the_default_limits() {
    let data = sample(MIB);
    for form in FORMATS {
        let body = form.encode(&data);
        let decoded = decode(form.coding(), DecodeLimits::default(), body.chunks(1000));
        assert!(decoded.as_ref() == Ok(&data), "{form:?}");
    }
}
