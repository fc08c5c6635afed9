//! Counts what an HTTP/2 connection has to keep until it is read or sent.

/// Length of the client's connection preface, without the settings behind it.
const PREFACE_LEN: usize = 24;

/// Length of the header of a frame.
const HEADER_LEN: usize = 9;

/// Type of DATA frames, whose payloads wait for whoever reads the stream.
const DATA: u8 = 0;

/// Counts the payloads of DATA frames in the bytes that one side of an HTTP/2 connection sends.
///
/// A server that subtracts what it has read of its streams knows what HTTP/2 holds for them.
#[derive(Debug)]
pub struct DataCounter {
    /// Bytes before the next header: of the preface, or of a payload.
    left: usize,
    is_data: bool,
    /// The beginning of a header, of this length.
    header: [u8; HEADER_LEN],
    header_len: usize,
}

impl DataCounter {
    /// Creates a counter for the bytes of a client, from the beginning of a connection.
    pub fn of_client() -> Self {
        Self::behind(PREFACE_LEN)
    }

    /// Creates a counter for the bytes of a server, from the beginning of a connection.
    pub fn of_server() -> Self {
        Self::behind(0)
    }

    fn behind(preface: usize) -> Self {
        Self {
            left: preface,
            is_data: false,
            header: [0; HEADER_LEN],
            header_len: 0,
        }
    }

    /// Returns how many of the next bytes belong to the payload of a DATA frame.
    pub fn count(&mut self, mut bytes: &[u8]) -> usize {
        let mut data = 0;
        while !bytes.is_empty() {
            if self.left == 0 {
                bytes = self.take_header(bytes);
                continue;
            }
            let len = self.left.min(bytes.len());
            self.left -= len;
            bytes = &bytes[len..];
            if self.is_data {
                data += len;
            }
        }
        data
    }

    /// Takes bytes of a header, and returns the bytes behind it.
    fn take_header<'a>(&mut self, bytes: &'a [u8]) -> &'a [u8] {
        let len = (HEADER_LEN - self.header_len).min(bytes.len());
        let (taken, rest) = bytes.split_at(len);
        self.header[self.header_len..][..len].copy_from_slice(taken);
        self.header_len += len;
        if self.header_len == HEADER_LEN {
            let [high, middle, low, kind, ..] = self.header;
            self.left = u32::from_be_bytes([0, high, middle, low]) as usize;
            self.is_data = kind == DATA;
            self.header_len = 0;
        }
        rest
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn payloads_of_data_frames_are_counted_wherever_they_are_cut() {
        let frame =
            |kind, len: u8| [&[0, 0, len, kind, 0, 0, 0, 0, 1], &vec![7; len.into()][..]].concat();
        let frames = [
            frame(4, 6),
            frame(1, 30),
            frame(DATA, 40),
            frame(DATA, 0),
            frame(DATA, 2),
        ];
        let sent = [&b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"[..], &frames.concat()].concat();
        for size in 1..=sent.len() {
            let mut counter = DataCounter::of_client();
            let counted: usize = sent.chunks(size).map(|part| counter.count(part)).sum();
            assert_eq!(counted, 42, "in pieces of {size}");
        }
    }
}
