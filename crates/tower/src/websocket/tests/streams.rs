//! Use of the streams: masks, and memory for what is read.

use super::*;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};
use tokio::io::{AsyncRead, ReadBuf, empty, sink};
use tokio::net::{TcpListener, TcpStream};

#[tokio::test(start_paused = true)]
async fn each_frame_to_the_upstream_has_a_mask_of_its_own() {
    let mut ends = Ends::new(forward_all());
    let frame = Seen::new(BINARY, [0; 8]);
    let mut masks = Vec::new();
    for _ in 0..4 {
        ends.send(Side::Client, std::slice::from_ref(&frame)).await;
        let mut received = [0; 14];
        ends.upstream.read_exact(&mut received).await.unwrap();
        assert_eq!(received[..2], [0x82, 0x88]);
        // A payload of zeros shows the key.
        assert_eq!(received[2..6], received[6..10]);
        assert_eq!(received[2..6], received[10..14]);
        masks.push(received[2..6].to_vec());
    }
    assert!(!masks.contains(&KEY.to_vec()));
    masks.sort();
    masks.dedup();
    // One collision of random keys is conceivable.
    assert!(masks.len() >= 3, "{masks:x?}");
}

/// Reads the given data, and records the most memory that was offered for one read.
struct Offered {
    data: Vec<u8>,
    largest: Arc<AtomicUsize>,
}

impl AsyncRead for Offered {
    fn poll_read(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<std::io::Result<()>> {
        self.largest
            .fetch_max(buffer.remaining(), Ordering::Relaxed);
        let length = self.data.len().min(buffer.remaining()).min(10_000);
        buffer.put_slice(&self.data[..length]);
        self.data.drain(..length);
        Poll::Ready(Ok(()))
    }
}

#[tokio::test(start_paused = true)]
async fn memory_grows_with_what_has_arrived() {
    for (arrived, most) in [(100, 128 * 1024), (300_000, 1024 * 1024)] {
        let largest = Arc::new(AtomicUsize::new(0));
        let length = (64u64 << 20).to_be_bytes();
        let mut data = [&[0x82, 127][..], &length].concat();
        data.resize(data.len() + arrived, 0);
        let upstream = Offered {
            data,
            largest: largest.clone(),
        };
        let limits = Limits {
            max_frame: 64 << 20,
            max_message: 64 << 20,
            ..Limits::default()
        };
        let (client, relay_client) = duplex(ROOM);
        let end = relay(
            relay_client,
            tokio::io::join(upstream, sink()),
            forward_all(),
            &limits,
        );
        let end = in_time(end).await;
        drop(client);
        assert_eq!(
            end.cause,
            EndCause::HungUp {
                side: Side::Upstream
            }
        );
        assert!(
            largest.load(Ordering::Relaxed) <= most,
            "{largest:?} after {arrived}"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn streams_that_have_ended_already() {
    let ended = || tokio::io::join(empty(), sink());
    let end = relay(ended(), ended(), forward_all(), &Limits::default()).await;
    assert!(matches!(end.cause, EndCause::HungUp { .. }), "{end:?}");
    assert_eq!(end.client, end.upstream);
}

#[tokio::test]
async fn tcp_does_not_lose_the_code_of_a_peer_that_is_sending() {
    for side in [Side::Client, Side::Upstream] {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (mut sender, (accepted, _)) =
            tokio::try_join!(TcpStream::connect(address), listener.accept()).unwrap();
        let (mut receiver, other) = duplex(ROOM);
        let relay = tokio::spawn(async move {
            let limits = Limits::default();
            match side {
                Side::Client => relay(accepted, other, forward_all(), &limits).await,
                Side::Upstream => relay(other, accepted, forward_all(), &limits).await,
            }
        });
        let mut sent = Seen::new(0xF, "").encode(side);
        sent.resize(2 << 20, 0);
        // Reads only after all is sent, when a reset would have discarded the close frame.
        sender.write_all(&sent).await.expect("the relay reads on");
        sender.shutdown().await.unwrap();
        let mut at_receiver = Vec::new();
        receiver.read_to_end(&mut at_receiver).await.unwrap();
        drop(receiver);
        let end = relay.await.unwrap();
        assert!(matches!(end.cause, EndCause::Violation { .. }), "{end:?}");
        let mut at_sender = Vec::new();
        sender
            .read_to_end(&mut at_sender)
            .await
            .expect("the connection is not reset");
        let frames = Seen::decode_all(&at_sender, side.peer());
        assert_eq!(frames, [Seen::close(1002, "reserved opcode")]);
        assert_eq!(Seen::decode_all(&at_receiver, side), frames);
    }
}

#[tokio::test(start_paused = true)]
async fn what_follows_a_long_frame_at_once_is_kept() {
    let mut ends = Ends::new(forward_all());
    let frames = [Seen::new(BINARY, [1; 70_000]), Seen::new(TEXT, "next")];
    let sent: Vec<u8> = frames
        .iter()
        .flat_map(|frame| frame.encode(Side::Client))
        .collect();
    ends.client.write_all(&sent).await.unwrap();
    ends.client.shutdown().await.unwrap();
    assert_eq!(ends.finish().await.upstream, frames);
}
