use super::*;
use bytes::Bytes;

#[test]
fn partial_sends_transmit_the_whole_batch() {
    let frames: [(&[u8], &'static [u8]); 4] =
        [(b"ab", b"c"), (b"", b""), (b"d", b""), (b"ef", b"gh")];
    for step in 1..=8 {
        let mut batch = Batch::default();
        for (written, body) in frames {
            batch.push(OutgoingFrame {
                written: written.to_vec(),
                body: Bytes::from_static(body),
            });
        }
        let mut out: Vec<u8> = Vec::new();
        let mut recycled = 0;
        while !batch.is_empty() {
            let mut slices = [IoSlice::new(&[]); 2];
            let filled = batch.fill(&mut slices);
            let bytes: Vec<u8> = slices[..filled]
                .iter()
                .flat_map(|slice| slice.to_vec())
                .collect();
            let sent = step.min(bytes.len());
            out.extend(&bytes[..sent]);
            batch.advance(sent, |_| recycled += 1);
        }
        assert_eq!(out, b"abcdefgh");
        assert_eq!(recycled, 3);
    }
}
