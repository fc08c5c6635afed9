//! How requests and failures came over time.

use serde::{Deserialize, Serialize};
use std::time::Duration;

/// More points than a chart has room for are thinned out.
const MOST_POINTS: usize = 512;

/// Counts at points in time, evenly spread over a run of any length.
#[derive(Debug)]
pub(crate) struct Timeline {
    points: Vec<Point>,
    /// Every so many of the points offered are kept.
    stride: u64,
    offered: u64,
}

/// How much had happened by a point in time.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub(crate) struct Point {
    /// Since the first request.
    pub(crate) seconds: f64,
    /// Requests so far.
    pub(crate) requests: u64,
    /// Requests so far that failed.
    pub(crate) errors: u64,
}

impl Timeline {
    /// Takes all the memory it will ever need.
    pub(crate) fn new() -> Self {
        Self {
            points: Vec::with_capacity(MOST_POINTS + 1),
            stride: 1,
            offered: 0,
        }
    }

    /// Takes a point, if it is one of those to be kept.
    pub(crate) fn offer(&mut self, elapsed: Duration, requests: u64, errors: u64) {
        if self.offered.is_multiple_of(self.stride) {
            self.make_room();
            self.points.push(Point {
                seconds: elapsed.as_secs_f64(),
                requests,
                errors,
            });
        }
        self.offered += 1;
    }

    /// Takes the last point, unless it comes so soon after the one before that a rate between them says nothing.
    pub(crate) fn end(&mut self, elapsed: Duration, requests: u64, errors: u64) {
        let seconds = elapsed.as_secs_f64();
        let is_soon = |[before, last]: &[Point; 2]| {
            seconds - last.seconds < (last.seconds - before.seconds) / 2.0
        };
        if !self.points.last_chunk().is_some_and(is_soon) {
            self.points.push(Point {
                seconds,
                requests,
                errors,
            });
        }
    }

    /// The points, the earliest first.
    pub(crate) fn points(&self) -> &[Point] {
        &self.points
    }

    fn make_room(&mut self) {
        if self.points.len() < MOST_POINTS {
            return;
        }
        let mut place = 0;
        self.points.retain(|_| {
            place += 1;
            place % 2 == 1
        });
        self.stride *= 2;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_short_run_is_kept_whole() {
        let mut timeline = Timeline::new();
        for second in 0..3 {
            timeline.offer(Duration::from_secs(second), second * 10, second);
        }
        let requests = timeline.points().iter().map(|point| point.requests);
        assert_eq!(requests.collect::<Vec<_>>(), [0, 10, 20]);
    }

    #[test]
    fn the_end_counts_unless_it_comes_at_once() {
        let mut timeline = Timeline::new();
        timeline.end(Duration::from_millis(10), 1, 0);
        timeline.offer(Duration::from_millis(200), 2, 0);
        timeline.end(Duration::from_millis(201), 2, 0);
        assert_eq!(timeline.points().len(), 2);
        timeline.end(Duration::from_millis(350), 3, 0);
        assert_eq!(timeline.points().len(), 3);
    }

    #[test]
    fn a_long_run_is_thinned_out_evenly_and_takes_no_more_memory() {
        let mut timeline = Timeline::new();
        for second in 0..100_000 {
            timeline.offer(Duration::from_secs(second), second, 0);
        }
        let seconds: Vec<u64> = timeline
            .points()
            .iter()
            .map(|point| point.requests)
            .collect();
        assert!((MOST_POINTS / 2..=MOST_POINTS).contains(&seconds.len()));
        assert_eq!(timeline.points.capacity(), MOST_POINTS + 1);
        let step = seconds[1] - seconds[0];
        assert!(seconds.windows(2).all(|pair| pair[1] - pair[0] == step));
    }
}
