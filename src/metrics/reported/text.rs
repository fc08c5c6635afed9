//! Prometheus text format.

use super::labels::escape_help;
use super::sample::{Histogram, Kind, Reading};
use std::fmt::Write;

/// Text of a scrape. Metrics are written one after another, each with all its series.
#[derive(Debug, Default)]
pub(in crate::metrics) struct Exposition(String);

impl Exposition {
    /// Begins a metric, whose series follow.
    pub(in crate::metrics) fn begin(&mut self, name: &str, help: Option<&str>, kind: Kind) {
        if let Some(help) = help {
            self.line(format_args!("# HELP {name} {}", escape_help(help)));
        }
        self.line(format_args!("# TYPE {name} {}", kind.as_str()));
    }

    /// Writes a comment of one line.
    pub(super) fn comment(&mut self, text: &str) {
        self.line(format_args!("# {text}"));
    }

    /// Writes a series. `labels` comes from [`write_labels`](super::write_labels).
    pub(in crate::metrics) fn series(&mut self, name: &str, labels: &str, reading: &Reading) {
        match reading {
            Reading::Counter(count) => self.sample(name, labels, count),
            Reading::Gauge(value) => self.sample(name, labels, Float(*value)),
            Reading::Histogram(histogram) => self.histogram(name, labels, histogram),
        }
    }

    pub(in crate::metrics) fn finish(self) -> String {
        self.0
    }

    fn histogram(&mut self, name: &str, labels: &str, histogram: &Histogram) {
        let comma = if labels.is_empty() { "" } else { "," };
        for (le, count) in &histogram.buckets {
            let le = Float(*le);
            self.line(format_args!(
                "{name}_bucket{{{labels}{comma}le=\"{le}\"}} {count}"
            ));
        }
        let count = histogram.count;
        self.line(format_args!(
            "{name}_bucket{{{labels}{comma}le=\"+Inf\"}} {count}"
        ));
        self.sample(&format!("{name}_sum"), labels, Float(histogram.sum));
        self.sample(&format!("{name}_count"), labels, count);
    }

    fn sample(&mut self, name: &str, labels: &str, value: impl std::fmt::Display) {
        if labels.is_empty() {
            self.line(format_args!("{name} {value}"));
        } else {
            self.line(format_args!("{name}{{{labels}}} {value}"));
        }
    }

    fn line(&mut self, line: std::fmt::Arguments<'_>) {
        // Writing to a `String` never fails.
        let _ = writeln!(self.0, "{line}");
    }
}

/// A number in the form of the Prometheus text format. Very large and very small numbers have an
/// exponent, so that they stay short.
struct Float(f64);

impl std::fmt::Display for Float {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.0.abs() {
            f64::INFINITY if self.0 < 0.0 => f.write_str("-Inf"),
            f64::INFINITY => f.write_str("+Inf"),
            1e-5..1e21 | 0.0 => write!(f, "{}", self.0),
            _ => write!(f, "{:e}", self.0),
        }
    }
}
