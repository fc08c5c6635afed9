//! Windows and headers of frames.

use super::*;
use std::io::Write;

fn zstd_with_window(log: u32) -> Vec<u8> {
    let mut encoder = zstd::Encoder::new(Vec::new(), 1).unwrap();
    encoder.window_log(log).unwrap();
    encoder.write_all(b"data").unwrap();
    // Without this the encoder knows the size, and takes a window of that.
    encoder.flush().unwrap();
    encoder.finish().unwrap()
}

/// Returns a frame of one block without compression, after a header from the descriptor on.
fn zstd_frame(header: &[u8]) -> Vec<u8> {
    [b"\x28\xb5\x2f\xfd", header, b"\x21\0\0data"].concat()
}

#[test]
fn zstd_windows_are_limited_to_8_mib() {
    for (log, expected) in [
        (20, Ok(b"data".to_vec())),
        (23, Ok(b"data".to_vec())),
        (24, Err(CodingError::WindowTooLarge)),
        (27, Err(CodingError::WindowTooLarge)),
    ] {
        let body = zstd_with_window(log);
        assert_eq!(decode_whole(Coding::Zstd, &body), expected, "{log}");
        assert_eq!(decode_bytes(Coding::Zstd, &body), expected, "{log}");
    }
}

#[test]
fn zstd_window_sizes_are_read_from_every_form_of_header() {
    let max = 8 * 1024 * 1024_u32;
    let content_len = |flag: u8, len: u64, bytes: usize| {
        [&[flag << 6 | 0x20], &len.to_le_bytes()[..bytes]].concat()
    };
    // The content has another length than the header says, so that only the window may pass.
    for header in [
        content_len(2, u64::from(max) + 1, 4),
        content_len(3, 1 << 40, 8),
        content_len(3, u64::MAX, 8),
        vec![0, 13 << 3 | 1],
        vec![0, 0xff],
    ] {
        let decoded = decode_whole(Coding::Zstd, &zstd_frame(&header));
        assert_eq!(decoded, Err(CodingError::WindowTooLarge), "{header:?}");
    }
    for header in [
        content_len(2, u64::from(max), 4),
        content_len(1, 0xffff, 2),
        content_len(3, 5, 8),
        content_len(0, 3, 1),
    ] {
        let decoded = decode_whole(Coding::Zstd, &zstd_frame(&header));
        assert_eq!(decoded, Err(CodingError::Corrupt), "{header:?}");
    }
    for header in [
        content_len(0, 4, 1),
        content_len(2, 4, 4),
        content_len(3, 4, 8),
        vec![0, 13 << 3],
        vec![0, 0],
        [&[0x80, 13 << 3][..], &[4, 0, 0, 0]].concat(),
    ] {
        let body = zstd_frame(&header);
        assert_eq!(decode_whole(Coding::Zstd, &body), Ok(b"data".to_vec()));
        assert_eq!(decode_bytes(Coding::Zstd, &body), Ok(b"data".to_vec()));
    }
}

#[test]
fn zstd_needs_exactly_one_frame_without_a_dictionary() {
    let skippable = b"\x50\x2a\x4d\x18\x01\0\0\0x";
    let frame = Form::Zstd.encode(b"data");
    let skipped_first = [&skippable[..], &frame].concat();
    let skipped_last = [&frame[..], skippable].concat();
    // A frame whose dictionary looks like the magic number of another frame.
    let with_dictionary = zstd_frame(b"\x43\0\x28\xb5\x2f\xfd\0\0");
    for (body, expected) in [
        (&skippable[..], CodingError::Corrupt),
        (&skipped_first, CodingError::Corrupt),
        (&skipped_last, CodingError::TrailingData),
        (&with_dictionary, CodingError::Corrupt),
        // A frame of zstd 0.7.
        (b"\x27\xb5\x2f\xfd\0\0\0\0\0\0", CodingError::Corrupt),
    ] {
        assert_eq!(decode_whole(Coding::Zstd, body), Err(expected), "{body:?}");
        assert_eq!(decode_bytes(Coding::Zstd, body), Err(expected), "{body:?}");
    }
}

#[test]
fn brotli_windows_are_limited_to_16_mib() {
    let encode = |lgwin, large_window| {
        let params = brotli::enc::BrotliEncoderParams {
            quality: 5,
            lgwin,
            large_window,
            ..Default::default()
        };
        let mut body = Vec::new();
        brotli::BrotliCompress(&mut &sample(1000)[..], &mut body, &params).unwrap();
        body
    };
    for lgwin in [10, 16, 22, 24] {
        let decoded = decode_whole(Coding::Brotli, &encode(lgwin, false));
        assert_eq!(decoded, Ok(sample(1000)), "{lgwin}");
    }
    for lgwin in [22, 25, 30] {
        let decoded = decode_whole(Coding::Brotli, &encode(lgwin, true));
        assert_eq!(decoded, Err(CodingError::WindowTooLarge), "{lgwin}");
    }
}

#[test]
fn deflate_with_a_preset_dictionary_is_refused() {
    // The flag for the dictionary, with a valid check of the header.
    let decoded = decode_whole(Coding::Deflate, b"\x78\xbb\0\0\0\x01\x03\0");
    assert_eq!(decoded, Err(CodingError::Corrupt));
}
