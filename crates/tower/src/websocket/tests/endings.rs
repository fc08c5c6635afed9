//! Ends of connections: close frames, and peers that hang up.

use super::*;
use std::pin::Pin;
use std::task::{Context, Poll};
use tokio::io::AsyncWrite;
use tokio::sync::mpsc;
use tokio::time::Instant;

#[tokio::test(start_paused = true)]
async fn close_frames_are_forwarded_both_ways() {
    for side in [Side::Client, Side::Upstream] {
        let start = Instant::now();
        let mut ends = Ends::new(forward_all());
        ends.send(side, &[Seen::close(1001, "going")]).await;
        assert_eq!(ends.receive(side.peer()).await, Seen::close(1001, "going"));
        // What the other peer sends before its answer still arrives.
        ends.send(
            side.peer(),
            &[Seen::new(TEXT, "last"), Seen::close(1001, "")],
        )
        .await;
        assert_eq!(ends.receive(side).await, Seen::new(TEXT, "last"));
        assert_eq!(ends.receive(side).await, Seen::close(1001, ""));
        let finished = ends.finish().await;
        assert_eq!(finished.end.cause, EndCause::Closed { by: side });
        assert!(finished.client.is_empty() && finished.upstream.is_empty());
        assert!(
            start.elapsed() < Limits::default().drain_timeout,
            "the streams end at once"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn frames_behind_a_close_frame_are_ignored() {
    let mut ends = Ends::new(forward_all());
    ends.send(
        Side::Client,
        &[Seen::new(CLOSE, ""), Seen::new(TEXT, "late")],
    )
    .await;
    assert_eq!(ends.receive(Side::Upstream).await, Seen::new(CLOSE, ""));
    ends.send(Side::Upstream, &[Seen::new(CLOSE, "")]).await;
    let finished = ends.finish().await;
    assert!(finished.upstream.is_empty());
    assert_eq!(finished.end.client.frames, 1);
}

#[tokio::test(start_paused = true)]
async fn a_close_frame_that_is_not_answered() {
    for side in [Side::Client, Side::Upstream] {
        let start = Instant::now();
        let mut ends = Ends::new(forward_all());
        ends.send(side, &[Seen::close(1000, "")]).await;
        let finished = ends.finish().await;
        assert_eq!(finished.end.cause, EndCause::TimedOut { side: side.peer() });
        assert!(start.elapsed() >= Limits::default().close_timeout);
        let (sender, receiver) = match side {
            Side::Client => (finished.client, finished.upstream),
            Side::Upstream => (finished.upstream, finished.client),
        };
        assert_eq!(sender, [Seen::new(CLOSE, "")]);
        assert_eq!(receiver, [Seen::close(1000, "")]);
    }
}

#[tokio::test(start_paused = true)]
async fn hang_up_at_every_byte() {
    let sent = [
        Seen::part(TEXT, "ab"),
        Seen::new(PING, "p"),
        Seen::new(CONTINUATION, [b'c'; 126]),
    ];
    for side in [Side::Client, Side::Upstream] {
        let encoded: Vec<u8> = sent.iter().flat_map(|frame| frame.encode(side)).collect();
        for length in 0..=encoded.len() {
            let mut ends = Ends::new(forward_all());
            ends.end(side).write_all(&encoded[..length]).await.unwrap();
            ends.end(side).shutdown().await.unwrap();
            let finished = ends.finish().await;
            assert_eq!(finished.end.cause, EndCause::HungUp { side });
            let (back, arrived, traffic) = match side {
                Side::Client => (finished.client, finished.upstream, finished.end.client),
                Side::Upstream => (finished.upstream, finished.client, finished.end.upstream),
            };
            assert!(back.is_empty());
            assert_eq!(arrived, sent[..arrived.len()]);
            let whole: usize = arrived.iter().map(|frame| frame.encode(side).len()).sum();
            assert_eq!(traffic.bytes, whole as u64);
            assert_eq!(traffic.frames, arrived.len() as u64);
            if length == encoded.len() {
                assert_eq!(arrived.len(), sent.len());
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn hang_up_after_a_close_frame() {
    let mut ends = Ends::new(forward_all());
    ends.send(Side::Client, &[Seen::close(1000, "")]).await;
    assert_eq!(ends.receive(Side::Upstream).await, Seen::close(1000, ""));
    ends.upstream.shutdown().await.unwrap();
    let finished = ends.finish().await;
    assert_eq!(finished.client, [Seen::new(CLOSE, "")]);
    assert_eq!(
        finished.end.cause,
        EndCause::HungUp {
            side: Side::Upstream
        }
    );
}

/// Fails to be written to, and tells so.
struct Broken(mpsc::UnboundedSender<()>);

impl AsyncWrite for Broken {
    fn poll_write(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
        _: &[u8],
    ) -> Poll<std::io::Result<usize>> {
        self.0.send(()).expect("the test is running");
        Poll::Ready(Err(std::io::ErrorKind::BrokenPipe.into()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

#[tokio::test(start_paused = true)]
async fn the_last_frames_of_a_peer_that_cannot_be_written_to_arrive() {
    let (mut client, relay_client) = duplex(ROOM);
    let (mut upstream, relay_upstream) = duplex(ROOM);
    let (written, mut was_written) = mpsc::unbounded_channel();
    let relay = tokio::spawn(async move {
        let upstream = tokio::io::join(relay_upstream, Broken(written));
        relay(relay_client, upstream, forward_all(), &Limits::default()).await
    });
    client
        .write_all(&Seen::new(TEXT, "lost").encode(Side::Client))
        .await
        .unwrap();
    in_time(was_written.recv())
        .await
        .expect("the upstream is written to");
    let last = [Seen::new(TEXT, "last"), Seen::close(1012, "restart")];
    for frame in &last {
        upstream
            .write_all(&frame.encode(Side::Upstream))
            .await
            .unwrap();
    }
    drop(upstream);
    let mut received = Vec::new();
    in_time(client.read_to_end(&mut received)).await.unwrap();
    drop(client);
    assert_eq!(Seen::decode_all(&received, Side::Upstream), last);
    let end = in_time(relay).await.unwrap();
    assert_eq!(end.cause, EndCause::Closed { by: Side::Upstream });
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_neither_reads_nor_ends_is_left_in_time() {
    let mut ends = Ends::with(forward_all(), Limits::default(), 64);
    let start = Instant::now();
    let Ends {
        client, upstream, ..
    } = &mut ends;
    // Fills the stream to the client, who reads nothing, and is cut off within a frame.
    let _ = tokio::time::timeout(
        Duration::from_secs(1),
        upstream.write_all(&Seen::new(BINARY, [0; 1000]).encode(Side::Upstream)),
    )
    .await;
    client
        .write_all(&Seen::new(0xF, "").encode(Side::Client))
        .await
        .unwrap();
    let end = in_time(&mut ends.relay).await.unwrap();
    assert!(matches!(end.cause, EndCause::Violation { .. }), "{end:?}");
    let limits = Limits::default();
    let longest = Duration::from_secs(1) + limits.close_timeout + limits.drain_timeout;
    assert!(
        start.elapsed() <= longest + Duration::from_secs(1),
        "{:?}",
        start.elapsed()
    );
}

#[tokio::test(start_paused = true)]
async fn discarding_is_bounded() {
    let limits = Limits {
        drain_bytes: 1000,
        ..Limits::default()
    };
    let mut ends = Ends::with(forward_all(), limits, 64);
    let mut sent = Seen::new(0xF, "").encode(Side::Client);
    sent.resize(1_000_000, 0);
    ends.client
        .write_all(&sent)
        .await
        .expect_err("the relay stops reading");
    let end = in_time(ends.relay).await.unwrap();
    assert!(matches!(end.cause, EndCause::Violation { .. }), "{end:?}");
}
