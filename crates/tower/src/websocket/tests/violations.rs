//! Frames that RFC 6455 forbids, and frames beyond the limits.

use super::*;

const PROTOCOL_ERROR: u16 = 1002;
const INVALID_DATA: u16 = 1007;
const TOO_BIG: u16 = 1009;

/// Sends bytes as `side`, and checks that both ends are closed with a code.
async fn assert_violation(side: Side, sent: &[u8], code: u16, context: &str) {
    let limits = Limits {
        max_frame: 1000,
        max_message: 1500,
        ..Limits::default()
    };
    let mut ends = Ends::with(forward_all(), limits, ROOM);
    ends.end(side).write_all(sent).await.unwrap();
    let finished = ends.finish().await;
    finished.assert_closed_with(code, context);
    match finished.end.cause {
        EndCause::Violation {
            side: by,
            code: counted,
            ..
        } => {
            assert_eq!((by, counted), (side, code), "{context}");
        }
        other => panic!("{context}: {other:?}"),
    }
}

/// Checks frames that are invalid whichever peer sends them.
async fn assert_violations(frames: &[Seen], code: u16, context: &str) {
    for side in [Side::Client, Side::Upstream] {
        let sent: Vec<u8> = frames.iter().flat_map(|frame| frame.encode(side)).collect();
        assert_violation(side, &sent, code, &format!("{context}, {side:?}")).await;
    }
}

/// Checks a header of a frame whose length is encoded by hand. Bit 7 of its second byte is set as
/// the sender's role requires.
async fn assert_header_violation(header: &[u8], code: u16, context: &str) {
    let mut masked = header.to_vec();
    masked[1] |= 0x80;
    masked.extend_from_slice(&KEY);
    assert_violation(Side::Client, &masked, code, context).await;
    assert_violation(Side::Upstream, header, code, context).await;
}

#[tokio::test(start_paused = true)]
async fn reserved_bits() {
    for bit in [0x40, 0x20, 0x10] {
        assert_header_violation(&[0x82 | bit, 0], PROTOCOL_ERROR, &format!("bit {bit:x}")).await;
        assert_header_violation(&[0x89 | bit, 0], PROTOCOL_ERROR, &format!("bit {bit:x}")).await;
    }
}

#[tokio::test(start_paused = true)]
async fn reserved_opcodes() {
    for opcode in [3, 4, 5, 6, 7, 0xB, 0xC, 0xD, 0xE, 0xF] {
        let context = format!("opcode {opcode:x}");
        assert_violations(&[Seen::new(opcode, "")], PROTOCOL_ERROR, &context).await;
    }
}

#[tokio::test(start_paused = true)]
async fn masks_of_the_wrong_side() {
    let unmasked = Seen::new(TEXT, "text").encode(Side::Upstream);
    assert_violation(Side::Client, &unmasked, PROTOCOL_ERROR, "unmasked").await;
    let masked = Seen::new(TEXT, "text").encode(Side::Client);
    assert_violation(Side::Upstream, &masked, PROTOCOL_ERROR, "masked").await;
}

#[tokio::test(start_paused = true)]
async fn lengths() {
    assert_header_violation(&[0x82, 126, 0, 125], PROTOCOL_ERROR, "16 bits for 125").await;
    let long_for_short = [0x82, 127, 0, 0, 0, 0, 0, 0, 0, 5];
    assert_header_violation(&long_for_short, PROTOCOL_ERROR, "64 bits for 5").await;
    let long_for_medium = [0x82, 127, 0, 0, 0, 0, 0, 0, 0xFF, 0xFF];
    assert_header_violation(&long_for_medium, PROTOCOL_ERROR, "64 bits for 65535").await;
    let top_bit = [0x82, 127, 0x80, 0, 0, 0, 0, 0, 0, 0];
    assert_header_violation(&top_bit, PROTOCOL_ERROR, "top bit").await;
    let largest = [0x82, 127, 0x7F, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF];
    assert_header_violation(&largest, TOO_BIG, "largest length").await;
}

#[tokio::test(start_paused = true)]
async fn control_frames() {
    for opcode in [CLOSE, PING, PONG] {
        let context = format!("opcode {opcode:x}");
        assert_violations(&[Seen::part(opcode, "")], PROTOCOL_ERROR, &context).await;
        assert_violations(&[Seen::new(opcode, [0; 126])], PROTOCOL_ERROR, &context).await;
    }
}

#[tokio::test(start_paused = true)]
async fn order_of_fragments() {
    assert_violations(&[Seen::new(CONTINUATION, "a")], PROTOCOL_ERROR, "no start").await;
    assert_violations(&[Seen::part(CONTINUATION, "a")], PROTOCOL_ERROR, "no start").await;
    let after_end = [Seen::part(TEXT, "a"), Seen::new(CONTINUATION, "b")];
    let after_end = [&after_end[..], &[Seen::new(CONTINUATION, "c")]].concat();
    assert_violations(&after_end, PROTOCOL_ERROR, "after the end").await;
    for (first, second) in [
        (TEXT, TEXT),
        (TEXT, BINARY),
        (BINARY, TEXT),
        (BINARY, BINARY),
    ] {
        let frames = [
            Seen::part(first, "a"),
            Seen::new(PING, "p"),
            Seen::new(second, "b"),
        ];
        assert_violations(&frames, PROTOCOL_ERROR, "message within a message").await;
    }
}

#[tokio::test(start_paused = true)]
async fn texts_that_are_not_utf8() {
    for text in [
        &b"\xFF"[..],
        b"ab\xC0\x80",
        b"\xED\xA0\x80",
        b"\xF4\x90\x80\x80",
        b"\xE2\x82",
    ] {
        let context = format!("{text:x?}");
        assert_violations(&[Seen::new(TEXT, text)], INVALID_DATA, &context).await;
        for at in 0..=text.len() {
            let (start, rest) = text.split_at(at);
            let frames = [
                Seen::part(TEXT, start),
                Seen::new(PONG, ""),
                Seen::new(0, rest),
            ];
            assert_violations(&frames, INVALID_DATA, &format!("{context} at {at}")).await;
        }
    }
    // Is found before the message ends.
    assert_violations(&[Seen::part(TEXT, b"\xFF")], INVALID_DATA, "fragment").await;
}

#[tokio::test(start_paused = true)]
async fn close_frames() {
    assert_violations(&[Seen::new(CLOSE, [3])], PROTOCOL_ERROR, "1 byte").await;
    for code in [
        0, 999, 1004, 1005, 1006, 1015, 1016, 2000, 2999, 5000, 65535,
    ] {
        let context = format!("code {code}");
        assert_violations(&[Seen::close(code, "")], PROTOCOL_ERROR, &context).await;
    }
    let reason = [0x03, 0xE8, 0xC3];
    assert_violations(&[Seen::new(CLOSE, reason)], INVALID_DATA, "reason").await;
}

#[tokio::test(start_paused = true)]
async fn sizes() {
    assert_violations(&[Seen::new(BINARY, [0; 1001])], TOO_BIG, "frame").await;
    assert_violations(&[Seen::new(BINARY, [0; 70_000])], TOO_BIG, "long frame").await;
    let frames = [
        Seen::part(BINARY, [0; 1000]),
        Seen::new(CONTINUATION, [0; 501]),
    ];
    assert_violations(&frames, TOO_BIG, "message").await;
}

#[tokio::test(start_paused = true)]
async fn the_largest_frames_pass() {
    let limits = Limits {
        max_frame: 1000,
        max_message: 1500,
        ..Limits::default()
    };
    let mut ends = Ends::with(forward_all(), limits, ROOM);
    let frames = [
        Seen::part(BINARY, [0; 1000]),
        Seen::new(PING, [1; 125]),
        Seen::new(CONTINUATION, [2; 500]),
        Seen::new(BINARY, [3; 1000]),
    ];
    for side in [Side::Client, Side::Upstream] {
        ends.send(side, &frames).await;
        for frame in &frames {
            assert_eq!(&ends.receive(side.peer()).await, frame);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_is_sending_gets_the_code() {
    // The streams hold less than the peer sends, so that it depends on the relay to read on.
    let mut ends = Ends::with(forward_all(), Limits::default(), 100);
    let mut sent = Seen::new(PING, [0; 126]).encode(Side::Client);
    sent.resize(100_000, 0);
    ends.client
        .write_all(&sent)
        .await
        .expect("the relay discards the rest");
    ends.client.shutdown().await.unwrap();
    ends.finish()
        .await
        .assert_closed_with(PROTOCOL_ERROR, "sending");
}

#[tokio::test(start_paused = true)]
async fn a_frame_in_progress_is_completed_before_the_close_frame() {
    let mut ends = Ends::with(forward_all(), Limits::default(), 100);
    let long = Seen::new(BINARY, [7; 5000]);
    let encoded = long.encode(Side::Upstream);
    let Ends {
        client, upstream, ..
    } = &mut ends;
    let (at_client, start) = tokio::join!(
        async {
            let start = client.read_u8().await.unwrap();
            client
                .write_all(&Seen::new(0xF, "").encode(Side::Client))
                .await
                .unwrap();
            start
        },
        upstream.write_all(&encoded[..]),
    );
    start.expect("a frame is read whole before it is judged");
    let mut received = vec![at_client];
    let mut rest = Vec::new();
    let Ends {
        mut client,
        mut upstream,
        relay,
    } = ends;
    let mut at_upstream = Vec::new();
    let (read, closed) = tokio::join!(
        client.read_to_end(&mut rest),
        upstream.read_to_end(&mut at_upstream)
    );
    read.unwrap();
    closed.unwrap();
    drop((client, upstream));
    received.append(&mut rest);
    let frames = Seen::decode_all(&received, Side::Upstream);
    assert_eq!(frames[0], long);
    assert_eq!(frames[1].code(), Some(PROTOCOL_ERROR));
    assert_eq!(frames.len(), 2);
    let end = relay.await.unwrap();
    assert!(
        matches!(
            end.cause,
            EndCause::Violation {
                side: Side::Client,
                ..
            }
        ),
        "{end:?}"
    );
}
