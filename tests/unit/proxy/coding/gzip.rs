//! Members and headers of gzip.

use super::*;
use flate2::{Crc, GzBuilder};
use std::io::Write;

fn members(parts: &[&[u8]]) -> Vec<u8> {
    let encoded = parts.iter().map(|part| Form::Gzip.encode(part));
    encoded.collect::<Vec<_>>().concat()
}

/// Returns a body with this header, apart from the checksum of the header.
fn with_header(header: &[u8]) -> Vec<u8> {
    let body = Form::Gzip.encode(b"data");
    [header, &body[10..]].concat()
}

fn header_crc(header: &[u8]) -> [u8; 2] {
    let mut crc = Crc::new();
    crc.update(header);
    (crc.sum() as u16).to_le_bytes()
}

#[test]
fn members_are_joined() {
    let body = members(&[b"first ", b"", &sample(100), b"last"]);
    let data = [b"first ", &sample(100)[..], b"last"].concat();
    assert_eq!(decode_bytes(Coding::Gzip, &body).as_ref(), Ok(&data));
    for at in 0..body.len() {
        let (first, second) = body.split_at(at);
        let decoded = decode(Coding::Gzip, UNLIMITED, [first, second]);
        assert_eq!(decoded.as_ref(), Ok(&data), "cut at {at}");
    }
}

#[test]
fn members_have_a_limit() {
    let most = members(&vec![&b"x"[..]; 1_000]);
    let decoded = decode_bytes(Coding::Gzip, &most);
    assert_eq!(decoded.map(|data| data.len()), Ok(1_000));
    let more = members(&vec![&b""[..]; 1_001]);
    assert_eq!(decode_bytes(Coding::Gzip, &more), Err(CodingError::Corrupt));
}

#[test]
fn member_that_begins_but_does_not_end_is_truncated() {
    let first = members(&[b"first"]);
    let body = members(&[b"first", b"second"]);
    for len in first.len() + 1..body.len() {
        let decoded = decode_whole(Coding::Gzip, &body[..len]);
        assert_eq!(decoded, Err(CodingError::Truncated), "{len}");
    }
}

#[test]
fn optional_parts_of_the_header_are_skipped() {
    let mut encoder = GzBuilder::new()
        .extra(vec![7; 300])
        .filename("name.txt")
        .comment("a comment")
        .mtime(1)
        .write(Vec::new(), flate2::Compression::default());
    encoder.write_all(b"data").unwrap();
    let body = encoder.finish().unwrap();
    assert_eq!(decode_whole(Coding::Gzip, &body), Ok(b"data".to_vec()));
    assert_eq!(decode_bytes(Coding::Gzip, &body), Ok(b"data".to_vec()));
}

#[test]
fn checksums_of_headers_are_verified() {
    let header = b"\x1f\x8b\x08\x16\0\0\0\0\0\xff\x02\0ABcomment\0";
    let crc = header_crc(header);
    let body = with_header(&[header, &crc[..]].concat());
    assert_eq!(decode_whole(Coding::Gzip, &body), Ok(b"data".to_vec()));
    assert_eq!(decode_bytes(Coding::Gzip, &body), Ok(b"data".to_vec()));

    let wrong = with_header(&[header, &[crc[0] ^ 1, crc[1]][..]].concat());
    assert_eq!(
        decode_whole(Coding::Gzip, &wrong),
        Err(CodingError::Corrupt)
    );
}

#[test]
fn unknown_methods_and_flags_are_refused() {
    for header in [
        b"\x1f\x8b\x07\0\0\0\0\0\0\xff",
        b"\x1f\x8b\x08\x20\0\0\0\0\0\xff",
        b"\x1f\x8b\x08\x80\0\0\0\0\0\xff",
    ] {
        let body = with_header(header);
        assert_eq!(decode_whole(Coding::Gzip, &body), Err(CodingError::Corrupt));
    }
}

#[test]
fn each_member_starts_with_an_empty_window() {
    // The raw data of the second member refers to what only the first one has.
    let text = sample(100);
    let mut raw = flate2::Compress::new(flate2::Compression::best(), false);
    let mut both = Vec::with_capacity(1000);
    raw.compress_vec(&text, &mut both, flate2::FlushCompress::Sync)
        .unwrap();
    let first_len = both.len();
    raw.compress_vec(&text, &mut both, flate2::FlushCompress::Finish)
        .unwrap();
    let mut crc = Crc::new();
    crc.update(&text);
    let second = [
        b"\x1f\x8b\x08\0\0\0\0\0\0\xff",
        &both[first_len..],
        &crc.sum().to_le_bytes(),
        &crc.amount().to_le_bytes(),
    ]
    .concat();
    let body = [members(&[&text]), second].concat();
    assert_eq!(decode_whole(Coding::Gzip, &body), Err(CodingError::Corrupt));
}
