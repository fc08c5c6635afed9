//! Bodies encoded by other programs' encoders.

use super::Coding;
use flate2::Compression;
use flate2::write::{DeflateEncoder, GzEncoder, ZlibEncoder};
use std::io::Write;

/// Encoded form of a body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Form {
    Gzip,
    Zlib,
    RawDeflate,
    Brotli,
    Zstd,
}

pub(super) const FORMATS: [Form; 5] = [
    Form::Gzip,
    Form::Zlib,
    Form::RawDeflate,
    Form::Brotli,
    Form::Zstd,
];

impl Form {
    pub(super) fn coding(self) -> Coding {
        match self {
            Self::Gzip => Coding::Gzip,
            Self::Zlib | Self::RawDeflate => Coding::Deflate,
            Self::Brotli => Coding::Brotli,
            Self::Zstd => Coding::Zstd,
        }
    }

    pub(super) fn has_checksum(self) -> bool {
        matches!(self, Self::Gzip | Self::Zlib | Self::Zstd)
    }

    pub(super) fn encode(self, data: &[u8]) -> Vec<u8> {
        let mut body = Vec::new();
        let mut encoder = self.encoder(&mut body);
        encoder.write(data);
        encoder.finish();
        body
    }

    /// Encodes parts, each of which is flushed. Returns the encoded parts, and what ends the body.
    pub(super) fn encode_flushed(self, parts: &[&[u8]]) -> (Vec<Vec<u8>>, Vec<u8>) {
        let mut body = Vec::new();
        // What is written so far can only be seen without the encoder, so each prefix is encoded.
        let mut flushed = Vec::new();
        let mut before = 0;
        for count in 1..=parts.len() {
            body.clear();
            let mut encoder = self.encoder(&mut body);
            for part in &parts[..count] {
                encoder.write(part);
                encoder.flush();
            }
            encoder.abandon();
            flushed.push(body[before..].to_vec());
            before = body.len();
        }
        body.clear();
        let mut encoder = self.encoder(&mut body);
        for part in parts {
            encoder.write(part);
            encoder.flush();
        }
        encoder.finish();
        (flushed, body.split_off(before))
    }

    fn encoder(self, body: &mut Vec<u8>) -> Encoder<'_> {
        let level = Compression::default();
        match self {
            Self::Gzip => Encoder::Gzip(GzEncoder::new(body, level)),
            Self::Zlib => Encoder::Zlib(ZlibEncoder::new(body, level)),
            Self::RawDeflate => Encoder::Raw(DeflateEncoder::new(body, level)),
            Self::Brotli => {
                Encoder::Brotli(Box::new(brotli::CompressorWriter::new(body, 4096, 5, 22)))
            }
            Self::Zstd => {
                let mut encoder = zstd::Encoder::new(body, 3).unwrap();
                encoder.include_checksum(true).unwrap();
                Encoder::Zstd(encoder)
            }
        }
    }
}

enum Encoder<'b> {
    Gzip(GzEncoder<&'b mut Vec<u8>>),
    Zlib(ZlibEncoder<&'b mut Vec<u8>>),
    Raw(DeflateEncoder<&'b mut Vec<u8>>),
    Brotli(Box<brotli::CompressorWriter<&'b mut Vec<u8>>>),
    Zstd(zstd::Encoder<'static, &'b mut Vec<u8>>),
}

impl Encoder<'_> {
    fn writer(&mut self) -> &mut dyn Write {
        match self {
            Self::Gzip(encoder) => encoder,
            Self::Zlib(encoder) => encoder,
            Self::Raw(encoder) => encoder,
            Self::Brotli(encoder) => encoder,
            Self::Zstd(encoder) => encoder,
        }
    }

    fn write(&mut self, data: &[u8]) {
        self.writer().write_all(data).unwrap();
    }

    fn flush(&mut self) {
        self.writer().flush().unwrap();
    }

    fn finish(self) {
        match self {
            Self::Gzip(encoder) => drop(encoder.finish().unwrap()),
            Self::Zlib(encoder) => drop(encoder.finish().unwrap()),
            Self::Raw(encoder) => drop(encoder.finish().unwrap()),
            Self::Brotli(encoder) => drop(encoder.into_inner()),
            Self::Zstd(encoder) => drop(encoder.finish().unwrap()),
        }
    }

    /// Ends without writing the end of the body.
    fn abandon(self) {
        std::mem::forget(self);
    }
}

/// Returns data of which parts repeat and parts do not, the same for each length.
pub(super) fn sample(len: usize) -> Vec<u8> {
    let mut random = fastrand::Rng::with_seed(7);
    let mut data = Vec::with_capacity(len + 64);
    while data.len() < len {
        data.extend_from_slice(b"event: message\r\ndata: ");
        let count = random.usize(1..40);
        data.extend(std::iter::repeat_with(|| random.u8(..)).take(count));
    }
    data.truncate(len);
    data
}
