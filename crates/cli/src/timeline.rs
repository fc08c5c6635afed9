//! Cumulative counts of requests and failures over time.

use serde::{Deserialize, Serialize};
use std::time::Duration;

/// Number of points at which every second one is dropped.
const MOST_POINTS: usize = 512;

/// Counts at points in time, evenly spread over a run of any length.
#[derive(Debug)]
pub(crate) struct Timeline {
    points: Vec<Point>,
    /// One in this many samples is kept.
    stride: u64,
    /// Number of samples so far, kept or not.
    sampled: u64,
}

/// Cumulative counts at a point in time.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub(crate) struct Point {
    /// Time since the first request.
    pub(crate) seconds: f64,
    /// Number of requests so far.
    pub(crate) requests: u64,
    /// Number of failed requests so far.
    pub(crate) errors: u64,
}

impl Timeline {
    /// Creates an empty timeline. Allocates all memory that it will need.
    pub(crate) fn new() -> Self {
        Self {
            points: Vec::with_capacity(MOST_POINTS + 1),
            stride: 1,
            sampled: 0,
        }
    }

    /// Takes a sample. Only every `stride`th becomes a point.
    pub(crate) fn sample(&mut self, elapsed: Duration, requests: u64, errors: u64) {
        if self.sampled.is_multiple_of(self.stride) {
            self.thin_out();
            self.points.push(Point {
                seconds: elapsed.as_secs_f64(),
                requests,
                errors,
            });
        }
        self.sampled += 1;
    }

    /// Adds the last point, unless it follows the previous one by less than half the usual
    /// distance: a rate over so short a time would be noise.
    pub(crate) fn finish(&mut self, elapsed: Duration, requests: u64, errors: u64) {
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

    /// Returns the points, the earliest first.
    pub(crate) fn points(&self) -> &[Point] {
        &self.points
    }

    /// Drops every second point once there are [`MOST_POINTS`], and doubles the stride.
    fn thin_out(&mut self) {
        if self.points.len() < MOST_POINTS {
            return;
        }
        let mut number = 0;
        self.points.retain(|_| {
            number += 1;
            number % 2 == 1
        });
        self.stride *= 2;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn short_run_keeps_every_sample() {
        let mut timeline = Timeline::new();
        for second in 0..3 {
            timeline.sample(Duration::from_secs(second), second * 10, second);
        }
        let requests = timeline.points().iter().map(|point| point.requests);
        assert_eq!(requests.collect::<Vec<_>>(), [0, 10, 20]);
    }

    #[test]
    fn last_point_is_dropped_if_too_close() {
        let mut timeline = Timeline::new();
        timeline.finish(Duration::from_millis(10), 1, 0);
        timeline.sample(Duration::from_millis(200), 2, 0);
        timeline.finish(Duration::from_millis(201), 2, 0);
        assert_eq!(timeline.points().len(), 2);
        timeline.finish(Duration::from_millis(350), 3, 0);
        assert_eq!(timeline.points().len(), 3);
    }

    #[test]
    fn long_run_is_thinned_out_without_growing() {
        let mut timeline = Timeline::new();
        for second in 0..100_000 {
            timeline.sample(Duration::from_secs(second), second, 0);
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
