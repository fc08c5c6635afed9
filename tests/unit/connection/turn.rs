use super::*;

#[test]
fn turn_ends_after_many_frames_or_bytes() {
    let mut turn = Turn::new();
    (0..MAX_WORK).for_each(|_| {
        assert!(!turn.is_over());
        turn.begin_frame(100);
    });
    (0..9 * MAX_WORK).for_each(|_| {
        assert!(turn.is_over());
        turn.begin_frame(100);
    });
    assert!(turn.is_over());
    for large in [Turn::note_received, Turn::begin_frame] {
        let mut turn = Turn::new();
        large(&mut turn, 10 * MAX_WORK * WORK_UNIT);
        assert!(turn.is_over());
    }
}

#[test]
fn turn_ends_after_a_time() {
    let mut turn = Turn::new();
    turn.begin_frame(MIN_TIMED_LEN);
    assert!(!turn.is_over());
    std::thread::sleep(2 * MAX_TIME);
    turn.begin_frame(MIN_TIMED_LEN);
    assert!(turn.is_over());
}
