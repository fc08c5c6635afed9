use super::*;
use futures_util::FutureExt;
use std::future::poll_fn;
use tokio::time::advance;

const PERIOD: Duration = Duration::from_secs(10);

fn is_stalled(timer: &mut FrameTimer) -> bool {
    poll_fn(|cx| timer.poll_stalled(cx))
        .now_or_never()
        .is_some()
}

async fn advance_a_period() {
    advance(PERIOD + Duration::from_millis(2)).await;
}

#[tokio::test(start_paused = true)]
async fn frame_without_progress_is_stalled_after_a_period() {
    let mut timer = FrameTimer::new(PERIOD);
    timer.note_received(1_000_000);
    assert!(!is_stalled(&mut timer));
    advance(PERIOD / 2).await;
    timer.note_received(MIN_PROGRESS as usize - 1);
    assert!(!is_stalled(&mut timer));
    advance_a_period().await;
    assert!(is_stalled(&mut timer));
}

#[tokio::test(start_paused = true)]
async fn frame_that_grows_is_not_stalled() {
    let mut timer = FrameTimer::new(PERIOD);
    for _ in 0..10 {
        assert!(!is_stalled(&mut timer));
        advance_a_period().await;
        timer.note_received(MIN_PROGRESS as usize);
    }
    assert!(!is_stalled(&mut timer));
    advance_a_period().await;
    assert!(is_stalled(&mut timer));
}

#[tokio::test(start_paused = true)]
async fn other_frame_begins_another_period() {
    let mut timer = FrameTimer::new(PERIOD);
    assert!(!is_stalled(&mut timer));
    timer.note_frame();
    advance_a_period().await;
    assert!(!is_stalled(&mut timer), "its period begins now");
    advance_a_period().await;
    assert!(is_stalled(&mut timer));
}
