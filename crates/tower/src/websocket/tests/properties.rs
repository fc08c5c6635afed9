//! Properties that hold for any data.

use super::*;
use proptest::collection::vec;
use proptest::prelude::*;
use tokio::runtime::Builder;

/// Runs a test to its end, with timers that fire when nothing else is left to do.
fn run<T>(test: impl Future<Output = T>) -> T {
    Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .unwrap()
        .block_on(test)
}

/// Sends data from both peers, each of which then ends its stream, and returns the outcome.
async fn exchange(from_client: &[u8], from_upstream: &[u8], room: usize) -> Finished {
    let limits = Limits {
        max_frame: 4000,
        max_message: 6000,
        ..Limits::default()
    };
    let Ends {
        client,
        upstream,
        relay,
    } = Ends::with(forward_all(), limits, room);
    let ((client, at_client), (upstream, at_upstream)) = tokio::join!(
        send_and_receive(client, from_client),
        send_and_receive(upstream, from_upstream)
    );
    let end = relay.await.expect("the relay does not panic");
    drop((client, upstream));
    Finished {
        client: whole_frames(&at_client, Side::Upstream),
        upstream: whole_frames(&at_upstream, Side::Client),
        end,
    }
}

async fn send_and_receive(stream: DuplexStream, sent: &[u8]) -> (DuplexStream, Vec<u8>) {
    let (mut read, mut write) = tokio::io::split(stream);
    let mut received = Vec::new();
    let (_, all) = tokio::join!(
        async {
            // Fails if the relay has ended.
            let _ = write.write_all(sent).await;
            write.shutdown().await
        },
        read.read_to_end(&mut received),
    );
    all.expect("a stream in memory does not fail");
    (read.unsplit(write), received)
}

/// Decodes frames, of which the last may be incomplete: it is not completed for a peer that hung
/// up.
fn whole_frames(mut data: &[u8], from: Side) -> Vec<Seen> {
    let mut frames = Vec::new();
    while let Some((frame, length)) = Seen::decode(data, from) {
        frames.push(frame);
        data = &data[length..];
    }
    frames
}

/// Checks that nothing follows a close frame.
fn assert_close_is_last(frames: &[Seen]) {
    let close = frames.iter().position(|frame| frame.opcode == CLOSE);
    assert!(close.is_none_or(|at| at + 1 == frames.len()), "{frames:?}");
}

/// Frames in any order, most of them valid by themselves.
fn any_frame() -> impl Strategy<Value = Seen> {
    (0..16u8, any::<bool>(), vec(any::<u8>(), 0..200)).prop_map(|(opcode, fin, payload)| Seen {
        opcode,
        fin,
        payload,
    })
}

/// Data that is mostly frames, with some bytes changed.
fn nearly_frames(side: Side) -> impl Strategy<Value = Vec<u8>> {
    let changes = vec((any::<prop::sample::Index>(), any::<u8>()), 0..4);
    (vec(any_frame(), 0..8), changes).prop_map(move |(frames, changes)| {
        let mut data: Vec<u8> = frames.iter().flat_map(|frame| frame.encode(side)).collect();
        for (at, byte) in changes.into_iter().filter(|_| !frames.is_empty()) {
            let at = at.index(data.len());
            data[at] = byte;
        }
        data
    })
}

/// A message in fragments with control frames between them.
fn message() -> impl Strategy<Value = Vec<Seen>> {
    let control = (
        prop_oneof![Just(PING), Just(PONG)],
        vec(any::<u8>(), 0..=125),
    )
        .prop_map(|(opcode, payload)| Seen::new(opcode, payload));
    let content = prop_oneof![
        "\\PC{0,300}".prop_map(|text| (TEXT, text.into_bytes())),
        vec(any::<u8>(), 0..3000).prop_map(|data| (BINARY, data)),
    ];
    let cuts = vec(
        (any::<prop::sample::Index>(), prop::option::of(control)),
        0..5,
    );
    (content, cuts).prop_map(|((opcode, data), mut cuts)| {
        let at = |index: &prop::sample::Index| index.index(data.len() + 1);
        cuts.sort_by_key(|(index, _)| at(index));
        let (mut frames, mut start, mut opcode) = (Vec::new(), 0, opcode);
        for (index, control) in &cuts {
            frames.push(Seen::part(opcode, &data[start..at(index)]));
            frames.extend(control.clone());
            (start, opcode) = (at(index), CONTINUATION);
        }
        frames.push(Seen::new(opcode, &data[start..]));
        frames
    })
}

fn valid_frames() -> impl Strategy<Value = Vec<Seen>> {
    (vec(message(), 0..6), any::<bool>()).prop_map(|(messages, has_code)| {
        let close = if has_code {
            Seen::close(1000, "end €")
        } else {
            Seen::new(CLOSE, "")
        };
        messages.into_iter().flatten().chain([close]).collect()
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn any_bytes_end(
        client in vec(any::<u8>(), 0..300),
        upstream in vec(any::<u8>(), 0..300),
        room in 1..600usize,
    ) {
        let finished = run(exchange(&client, &upstream, room));
        assert_close_is_last(&finished.client);
        assert_close_is_last(&finished.upstream);
    }

    #[test]
    fn nearly_valid_bytes_end(
        client in nearly_frames(Side::Client),
        upstream in nearly_frames(Side::Upstream),
        room in 1..600usize,
    ) {
        let finished = run(exchange(&client, &upstream, room));
        assert_close_is_last(&finished.client);
        assert_close_is_last(&finished.upstream);
    }

    #[test]
    fn valid_frames_arrive_unchanged(
        client in valid_frames(),
        upstream in valid_frames(),
        room in 1..5000usize,
    ) {
        let from_client: Vec<u8> =
            client.iter().flat_map(|frame| frame.encode(Side::Client)).collect();
        let from_upstream: Vec<u8> =
            upstream.iter().flat_map(|frame| frame.encode(Side::Upstream)).collect();
        let finished = run(exchange(&from_client, &from_upstream, room));
        prop_assert!(finished.client == upstream);
        prop_assert!(finished.upstream == client);
        let closed = matches!(finished.end.cause, EndCause::Closed { .. });
        prop_assert!(closed, "{:?}", finished.end);
        prop_assert_eq!(finished.end.client.bytes, from_client.len() as u64);
        prop_assert_eq!(finished.end.upstream.bytes, from_upstream.len() as u64);
    }
}
