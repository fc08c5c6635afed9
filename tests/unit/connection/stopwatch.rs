use super::*;

#[test]
fn one_call_per_interval_is_timed() {
    for (interval, timed) in [(0, 0), (1, 1024), (2, 512), (3, 256), (64, 16)] {
        let sampling = Sampling::one_in(interval);
        let selects = |generation: &u64| sampling.selects(*generation);
        assert_eq!((1..=1024).filter(selects).count(), timed, "{interval}");
    }
    assert!(Sampling::one_in(u32::MAX).selects((1 << 32) - 1));
}

#[test]
fn stages_add_up_even_if_the_answer_is_early() {
    let started = Instant::now();
    for is_early in [false, true] {
        let watch = Stopwatch::new();
        watch.begin_encoding();
        let early = Instant::now();
        watch.end_encoding();
        watch.sent();
        assert_eq!(watch.timings(started), None);
        let before = started.elapsed();
        watch.answered(if is_early { early } else { Instant::now() });
        let timings = watch.timings(started).expect("it is answered");
        assert!((before..=started.elapsed()).contains(&timings.total()));
    }
}

#[test]
fn a_stopwatch_is_reused_once_its_frame_is_dropped() {
    let watch = Stopwatch::new();
    let frame = watch.clone();
    watch.begin_encoding();
    frame.sent();
    assert!(watch.clone().reset().is_none());
    drop(frame);
    let reset = watch.reset().expect("no frame shares it");
    assert_eq!(reset.0.noted(&reset.0.sent), None);
}
