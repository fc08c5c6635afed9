//! Bodies with a content coding.

use super::input;
use crate::fuzzing::input::Input;
use flate2::Compression;
use flate2::write::{DeflateEncoder, GzEncoder, ZlibEncoder};
use std::io::Write;

/// Returns short bodies in each coding, and one of each that decodes to much.
pub fn bodies() -> Vec<Input> {
    let page = b"<p>one</p><p>two</p>\n".repeat(5);
    let zeros = vec![0; 1024 * 1024];
    let of_each = [&page, &zeros].map(|data| {
        [
            // The choices select the coding, by their remainder of 4.
            input(0, gzip(data)),
            input(12, [gzip(data), gzip(b"")].concat()),
            input(1, zlib(data)),
            input(17, raw_deflate(data)),
            input(2, brotli(data)),
            input(3, zstd(data)),
        ]
    });
    of_each.into_iter().flatten().collect()
}

fn gzip(data: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(data).unwrap();
    encoder.finish().unwrap()
}

fn zlib(data: &[u8]) -> Vec<u8> {
    let mut encoder = ZlibEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(data).unwrap();
    encoder.finish().unwrap()
}

fn raw_deflate(data: &[u8]) -> Vec<u8> {
    let mut encoder = DeflateEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(data).unwrap();
    encoder.finish().unwrap()
}

fn brotli(data: &[u8]) -> Vec<u8> {
    let mut encoder = brotli::CompressorWriter::new(Vec::new(), 4096, 5, 22);
    encoder.write_all(data).unwrap();
    encoder.into_inner()
}

fn zstd(data: &[u8]) -> Vec<u8> {
    zstd::encode_all(data, 3).unwrap()
}
