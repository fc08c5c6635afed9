//! Decisions of judges.

use super::*;
use std::sync::{Arc, Mutex};
use tokio::sync::{mpsc, oneshot};
use tollgate::events::WebSocketOpcode;

/// Drops frames whose payload begins with "drop", and forwards others.
fn drop_some() -> Judges<impl Judge + Send + 'static> {
    both(By(|frame: Frame<'_>| {
        let is_dropped = frame.data.starts_with(b"drop");
        Ok(if is_dropped {
            FrameVerdict::Drop
        } else {
            FrameVerdict::Forward
        })
    }))
}

/// Returns what arrives of frames of which some are dropped, from either side.
async fn after_drops(frames: &[Seen], expected: &[Seen]) {
    for side in [Side::Client, Side::Upstream] {
        let mut ends = Ends::new(drop_some());
        ends.send(side, frames).await;
        ends.send(side, &[Seen::close(1000, "end")]).await;
        ends.send(side.peer(), &[Seen::close(1000, "end")]).await;
        let finished = ends.finish().await;
        let arrived = match side {
            Side::Client => finished.upstream,
            Side::Upstream => finished.client,
        };
        let expected = [expected, &[Seen::close(1000, "end")]].concat();
        assert_eq!(arrived, expected, "from {side:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn the_judge_sees_each_frame() {
    let seen = Arc::new(Mutex::new(Vec::new()));
    let judge = {
        let seen = seen.clone();
        By(move |frame: Frame<'_>| {
            let entry = (
                frame.from,
                frame.opcode,
                frame.fin,
                frame.index,
                frame.data.clone(),
            );
            seen.lock().unwrap().push(entry);
            Ok(FrameVerdict::Forward)
        })
    };
    let mut ends = Ends::new(both(judge));
    let frames = [
        Seen::part(TEXT, "a"),
        Seen::new(PING, "p"),
        Seen::new(CONTINUATION, "b"),
    ];
    ends.send(Side::Client, &frames).await;
    for frame in &frames {
        assert_eq!(&ends.receive(Side::Upstream).await, frame);
    }
    ends.send(
        Side::Upstream,
        &[Seen::new(BINARY, "c"), Seen::new(PONG, "p")],
    )
    .await;
    ends.receive(Side::Client).await;
    ends.send(Side::Client, &[Seen::close(1000, "")]).await;
    ends.receive(Side::Upstream).await;
    let finished = ends.finish().await;
    assert_eq!(finished.end.client.frames, 4);
    let seen = seen.lock().unwrap();
    let expected = [
        (Side::Client, WebSocketOpcode::Text, false, 0, "a".into()),
        (Side::Client, WebSocketOpcode::Ping, true, 1, "p".into()),
        (
            Side::Client,
            WebSocketOpcode::Continuation,
            true,
            2,
            "b".into(),
        ),
        (Side::Upstream, WebSocketOpcode::Binary, true, 0, "c".into()),
    ];
    assert_eq!(seen[..4], expected);
    let close = (
        Side::Client,
        WebSocketOpcode::Close,
        true,
        3,
        vec![0x03, 0xE8].into(),
    );
    assert!(seen[4..].contains(&close));
}

#[tokio::test(start_paused = true)]
async fn dropped_messages_and_control_frames_are_not_forwarded() {
    let frames = [
        Seen::new(TEXT, "a"),
        Seen::new(TEXT, "drop"),
        Seen::new(PING, "drop"),
        Seen::new(PING, "b"),
        Seen::new(BINARY, "drop"),
        Seen::new(BINARY, "c"),
    ];
    after_drops(
        &frames,
        &[frames[0].clone(), frames[3].clone(), frames[5].clone()],
    )
    .await;
}

#[tokio::test(start_paused = true)]
async fn the_rest_of_a_message_is_dropped_with_its_start() {
    let frames = [
        Seen::part(TEXT, "drop"),
        Seen::new(PING, "p"),
        Seen::part(CONTINUATION, "b"),
        Seen::new(CONTINUATION, "drop"),
        Seen::part(BINARY, "d"),
        Seen::new(CONTINUATION, "e"),
    ];
    let expected = [frames[1].clone(), frames[4].clone(), frames[5].clone()];
    after_drops(&frames, &expected).await;
}

#[tokio::test(start_paused = true)]
async fn a_message_is_ended_where_a_fragment_is_dropped() {
    let end = Seen::new(CONTINUATION, "");
    let middle = [
        Seen::part(TEXT, "a"),
        Seen::part(CONTINUATION, "drop"),
        Seen::part(CONTINUATION, "c"),
        Seen::new(PING, "p"),
        Seen::new(CONTINUATION, "d"),
        Seen::new(TEXT, "e"),
    ];
    let expected = [
        middle[0].clone(),
        end.clone(),
        middle[3].clone(),
        middle[5].clone(),
    ];
    after_drops(&middle, &expected).await;
    let last = [
        Seen::part(BINARY, "a"),
        Seen::new(CONTINUATION, "drop"),
        Seen::new(TEXT, "b"),
    ];
    after_drops(&last, &[last[0].clone(), end, last[2].clone()]).await;
}

#[tokio::test(start_paused = true)]
async fn a_character_that_cannot_be_ended_closes_the_connection() {
    let judges = both(By(|frame: Frame<'_>| match frame.index {
        1 => Ok(FrameVerdict::Drop),
        _ => Ok(FrameVerdict::Forward),
    }));
    let mut ends = Ends::new(judges);
    let frames = [
        Seen::part(TEXT, b"\xE2\x82"),
        Seen::new(CONTINUATION, b"\xAC"),
    ];
    ends.send(Side::Client, &frames).await;
    let finished = ends.finish().await;
    finished.assert_closed_with(1008, "character");
    assert_eq!(finished.end.client.dropped, 1);
}

#[tokio::test(start_paused = true)]
async fn a_dropped_close_frame_loses_its_payload() {
    let mut ends = Ends::new(both(By(|_: Frame<'_>| Ok(FrameVerdict::Drop))));
    ends.send(Side::Client, &[Seen::close(1000, "reason")])
        .await;
    assert_eq!(ends.receive(Side::Upstream).await, Seen::new(CLOSE, ""));
    ends.send(Side::Upstream, &[Seen::close(1000, "reason")])
        .await;
    let finished = ends.finish().await;
    assert_eq!(finished.client, [Seen::new(CLOSE, "")]);
    assert_eq!(finished.end.cause, EndCause::Closed { by: Side::Client });
}

#[tokio::test(start_paused = true)]
async fn close_decisions() {
    let long = "ä".repeat(100);
    let cases = [
        (1008, "not here", 1008, "not here"),
        (4321, "", 4321, ""),
        (1000, long.as_str(), 1000, &long[..122]),
        (1005, "reserved", 1008, "reserved"),
        (0, "zero", 1008, "zero"),
        (65535, "largest", 1008, "largest"),
    ];
    for side in [Side::Client, Side::Upstream] {
        for (code, reason, sent_code, sent_reason) in cases {
            let verdict = FrameVerdict::Close {
                code,
                reason: reason.to_owned(),
            };
            let judge = By(move |frame: Frame<'_>| {
                Ok(if frame.index == 1 {
                    verdict.clone()
                } else {
                    FrameVerdict::Forward
                })
            });
            let mut ends = Ends::new(both(judge));
            ends.send(side, &[Seen::new(TEXT, "a"), Seen::new(TEXT, "b")])
                .await;
            let finished = ends.finish().await;
            let close = Seen::close(sent_code, sent_reason);
            let (sender, receiver) = match side {
                Side::Client => (finished.client, finished.upstream),
                Side::Upstream => (finished.upstream, finished.client),
            };
            assert_eq!(sender, std::slice::from_ref(&close));
            assert_eq!(receiver, [Seen::new(TEXT, "a"), close]);
            let reason = reason.to_owned();
            assert_eq!(
                finished.end.cause,
                EndCause::ClosedByJudge { side, code, reason }
            );
        }
    }
}

#[tokio::test(start_paused = true)]
async fn frames_that_are_not_judged_are_not_forwarded() {
    for (error, code) in [(JudgeError::Failed, 1011), (JudgeError::Busy, 1013)] {
        let mut ends = Ends::new(both(By(move |_: Frame<'_>| Err(error))));
        ends.send(Side::Upstream, &[Seen::new(TEXT, "secret")])
            .await;
        let finished = ends.finish().await;
        finished.assert_closed_with(code, "not judged");
        assert_eq!(finished.client.len(), 1);
        let side = Side::Upstream;
        assert_eq!(finished.end.cause, EndCause::NotJudged { side, error });
    }
}

/// Waits for a decision on each frame.
struct Waits {
    asked: mpsc::UnboundedSender<oneshot::Sender<FrameVerdict>>,
}

impl Judge for Waits {
    async fn judge(&mut self, _frame: Frame<'_>) -> Result<FrameVerdict, JudgeError> {
        let (answer, answered) = oneshot::channel();
        self.asked.send(answer).expect("the test is running");
        answered.await.map_err(|_| JudgeError::Failed)
    }
}

#[tokio::test(start_paused = true)]
async fn a_slow_judge_stops_its_direction_only() {
    let (asked, mut from_client) = mpsc::unbounded_channel();
    let client = Waits { asked };
    let (asked, mut from_upstream) = mpsc::unbounded_channel();
    let mut ends = Ends::new(Judges {
        client,
        upstream: Waits { asked },
    });
    ends.send(Side::Client, &[Seen::new(TEXT, "a"), Seen::new(TEXT, "b")])
        .await;
    let first = from_client.recv().await.expect("the first frame is judged");
    for text in ["c", "d", "e"] {
        ends.send(Side::Upstream, &[Seen::new(TEXT, text)]).await;
        let answer = from_upstream
            .recv()
            .await
            .expect("the other direction is judged");
        answer.send(FrameVerdict::Forward).unwrap();
        assert_eq!(ends.receive(Side::Client).await, Seen::new(TEXT, text));
    }
    assert!(
        from_client.try_recv().is_err(),
        "one frame is judged at a time"
    );
    first.send(FrameVerdict::Forward).unwrap();
    assert_eq!(ends.receive(Side::Upstream).await, Seen::new(TEXT, "a"));
    let second = from_client
        .recv()
        .await
        .expect("the second frame is judged");
    second
        .send(FrameVerdict::Close {
            code: 3000,
            reason: String::new(),
        })
        .unwrap();
    ends.finish().await.assert_closed_with(3000, "second frame");
}
