//! Latency histograms: recorded without allocating, reported as percentiles and as bars.

use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};
use std::fmt::{self, Display, Formatter, Write as _};
use std::time::Duration;

const LONGEST: Duration = Duration::from_secs(60);
const SIGNIFICANT_DIGITS: u8 = 3;
const BAR_WIDTH: f64 = 40.0;

/// Counts latencies from 1 µs to one minute with a precision of three significant digits.
pub(crate) struct Latencies {
    microseconds: Histogram<u64>,
}

/// Percentiles in microseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Percentiles {
    p50: u64,
    p90: u64,
    p99: u64,
    p999: u64,
    max: u64,
}

/// The latency that a share of the requests did not exceed.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub(crate) struct Quantile {
    /// Share of the requests, from 0 to 1.
    pub(crate) share: f64,
    /// Their longest latency in microseconds.
    pub(crate) micros: u64,
}

impl Percentiles {
    /// Returns the percentiles by name, in microseconds.
    pub(crate) fn named(self) -> [(&'static str, u64); 5] {
        [
            ("p50", self.p50),
            ("p90", self.p90),
            ("p99", self.p99),
            ("p99.9", self.p999),
            ("max", self.max),
        ]
    }

    /// Returns the percentiles as quantiles. The maximum is left out: its share depends on the
    /// number of requests, which is not known here.
    pub(crate) fn quantiles(self) -> [Quantile; 4] {
        let shares = [
            (0.5, self.p50),
            (0.9, self.p90),
            (0.99, self.p99),
            (0.999, self.p999),
        ];
        shares.map(|(share, micros)| Quantile { share, micros })
    }
}

impl Latencies {
    /// Creates an empty histogram. Allocates all memory that it will need.
    pub(crate) fn new() -> Self {
        let microseconds = Histogram::new_with_bounds(1, micros(LONGEST), SIGNIFICANT_DIGITS)
            .expect("the bounds are valid constants");
        Self { microseconds }
    }

    /// Counts one latency. Latencies above a minute count as a minute.
    pub(crate) fn record(&mut self, latency: Duration) {
        self.microseconds.saturating_record(micros(latency).max(1));
    }

    /// Adds the counts of another histogram.
    pub(crate) fn merge(&mut self, other: &Self) {
        self.microseconds
            .add(&other.microseconds)
            .expect("all histograms have the same bounds");
    }

    /// Returns the number of recorded latencies.
    pub(crate) fn count(&self) -> u64 {
        self.microseconds.len()
    }

    /// Returns the percentiles for a report, all zero if nothing was recorded.
    pub(crate) fn percentiles(&self) -> Percentiles {
        let at = |quantile| self.microseconds.value_at_quantile(quantile);
        Percentiles {
            p50: at(0.5),
            p90: at(0.9),
            p99: at(0.99),
            p999: at(0.999),
            max: self.microseconds.max(),
        }
    }

    /// Returns latencies at shares that approach 1. Five equal steps cover each half of the
    /// remaining distance.
    pub(crate) fn quantiles(&self) -> Vec<Quantile> {
        let steps = self.microseconds.iter_quantiles(5);
        steps
            .map(|step| Quantile {
                share: step.quantile(),
                micros: step.value_iterated_to(),
            })
            .collect()
    }

    /// Returns one line with a bar for each power of two from the shortest to the longest latency.
    pub(crate) fn bars(&self) -> String {
        let rows = self.rows();
        let most = rows.iter().map(|row| row.count).max().unwrap_or(0);
        let mut text = String::new();
        for row in &rows {
            let (from, to) = (format_micros(row.from), format_micros(row.to));
            let bar = bar(row.count as f64 / most as f64);
            let share = 100.0 * row.count as f64 / self.count() as f64;
            // Writing to a string cannot fail.
            let _ = writeln!(text, "{from:>7} – {to:>7}  {share:5.1} %  {bar}");
        }
        text
    }

    fn rows(&self) -> Vec<Row> {
        if self.count() == 0 {
            return Vec::new();
        }
        let first = self.microseconds.min().max(1).ilog2();
        let last = self.microseconds.max().max(1).ilog2();
        (first..=last).map(|power| self.row(power)).collect()
    }

    fn row(&self, power: u32) -> Row {
        let (from, to) = (1 << power, 2 << power);
        Row {
            from,
            to,
            count: self.microseconds.count_between(from, to - 1),
        }
    }
}

/// Number of latencies of at least `from` and less than `to` microseconds.
struct Row {
    from: u64,
    to: u64,
    count: u64,
}

impl Display for Percentiles {
    fn fmt(&self, formatter: &mut Formatter<'_>) -> fmt::Result {
        let figures = self
            .named()
            .map(|(name, micros)| format!("{name} {}", format_micros(micros)));
        formatter.write_str(&figures.join("   "))
    }
}

fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

/// Formats a time for people, in µs, ms or s.
pub(crate) fn format_micros(microseconds: u64) -> String {
    match microseconds {
        0..10_000 => format!("{microseconds} µs"),
        10_000..10_000_000 => format!("{:.1} ms", microseconds as f64 / 1e3),
        _ => format!("{:.1} s", microseconds as f64 / 1e6),
    }
}

/// Returns a bar with a resolution of an eighth of a character. A share above 0 shows at least one
/// eighth.
fn bar(share: f64) -> String {
    const EIGHTHS: [&str; 8] = ["", "▏", "▎", "▍", "▌", "▋", "▊", "▉"];
    if share <= 0.0 {
        return String::new();
    }
    let eighths = ((share * BAR_WIDTH * 8.0).round() as usize).max(1);
    "█".repeat(eighths / 8) + EIGHTHS[eighths % 8]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn recorded(microseconds: &[u64]) -> Latencies {
        let mut latencies = Latencies::new();
        for &value in microseconds {
            latencies.record(Duration::from_micros(value));
        }
        latencies
    }

    #[test]
    fn percentiles_of_a_uniform_distribution() {
        let values: Vec<u64> = (1..=1000).collect();
        let percentiles = recorded(&values).percentiles();
        assert_eq!(
            percentiles,
            Percentiles {
                p50: 500,
                p90: 900,
                p99: 990,
                p999: 999,
                max: 1000
            }
        );
    }

    #[test]
    fn merging_adds_up() {
        let mut sum = recorded(&[10, 20]);
        sum.merge(&recorded(&[30]));
        assert_eq!(sum.count(), 3);
        assert_eq!(sum.percentiles().max, 30);
    }

    #[test]
    fn extremes_stay_within_bounds() {
        let mut latencies = recorded(&[0]);
        latencies.record(Duration::from_secs(3600));
        assert_eq!(latencies.percentiles().p50, 1);
        assert!(latencies.percentiles().max >= 60_000_000);
    }

    #[test]
    fn bars_show_each_power_of_two_in_proportion() {
        let text = recorded(&[5, 20, 20, 20, 20]).bars();
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(
            lines,
            [
                "   4 µs –    8 µs   20.0 %  ██████████",
                "   8 µs –   16 µs    0.0 %  ",
                &format!("  16 µs –   32 µs   80.0 %  {}", "█".repeat(40)),
            ]
        );
    }

    #[test]
    fn rare_latencies_are_visible() {
        let mut latencies = recorded(&[100]);
        for _ in 0..10_000 {
            latencies.record(Duration::from_micros(10));
        }
        assert!(latencies.bars().lines().last().unwrap().ends_with("▏"));
    }

    #[test]
    fn empty_histogram_has_no_bars() {
        assert_eq!(Latencies::new().bars(), "");
        assert_eq!(Latencies::new().percentiles().max, 0);
    }
}
