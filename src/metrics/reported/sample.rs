//! Validation of the series of a report.

use super::dropped::DropReason;
use super::labels::write_labels;
use crate::protocol::{CounterMetric, GaugeMetric, HistogramBucket, HistogramMetric};
use std::collections::HashMap;
use std::sync::Arc;

/// Maximum length of the name of a metric or label, in bytes.
const MAX_NAME_LEN: usize = 200;

/// Maximum length of a label value or help text, in bytes.
const MAX_TEXT_LEN: usize = 1024;

/// Maximum number of buckets of a histogram.
const MAX_BUCKETS: usize = 256;

/// Type of a metric.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::metrics) enum Kind {
    Counter,
    Gauge,
    Histogram,
}

impl Kind {
    pub(in crate::metrics) const fn as_str(self) -> &'static str {
        match self {
            Self::Counter => "counter",
            Self::Gauge => "gauge",
            Self::Histogram => "histogram",
        }
    }

    /// Returns the name of a metric of this kind and the names of its samples.
    pub(super) fn names(self, name: &str) -> Vec<String> {
        let suffixes: &[&str] = match self {
            Self::Counter | Self::Gauge => &[""],
            Self::Histogram => &["", "_bucket", "_sum", "_count"],
        };
        suffixes
            .iter()
            .map(|suffix| format!("{name}{suffix}"))
            .collect()
    }
}

/// Value of a series. Cheap to clone.
#[derive(Debug, Clone)]
pub(in crate::metrics) enum Reading {
    Counter(u64),
    Gauge(f64),
    Histogram(Arc<Histogram>),
}

impl Reading {
    pub(super) fn kind(&self) -> Kind {
        match self {
            Self::Counter(_) => Kind::Counter,
            Self::Gauge(_) => Kind::Gauge,
            Self::Histogram(_) => Kind::Histogram,
        }
    }
}

/// Value of a histogram.
///
/// Invariant: bounds are finite and strictly ascending, counts are cumulative and at most `count`.
#[derive(Debug, Clone, Default)]
pub(in crate::metrics) struct Histogram {
    pub(in crate::metrics) sum: f64,
    pub(in crate::metrics) count: u64,
    /// Upper bounds with the number of values up to each; the bucket without a bound is `count`.
    pub(in crate::metrics) buckets: Vec<(f64, u64)>,
}

/// A series as reported, not yet checked.
pub(super) struct Reported<'a> {
    pub(super) name: &'a str,
    pub(super) help: Option<&'a str>,
    pub(super) labels: &'a HashMap<String, String>,
    pub(super) read: Read<'a>,
}

/// Value of a reported series, not yet checked.
pub(super) enum Read<'a> {
    Counter(u64),
    Gauge(f64),
    Histogram(&'a HistogramMetric),
}

macro_rules! reported {
    ($($metric:ident: |$reported:ident| $read:expr;)*) => {$(
        impl<'a> From<&'a $metric> for Reported<'a> {
            fn from($reported: &'a $metric) -> Self {
                Self {
                    name: &$reported.name,
                    help: $reported.help.as_deref(),
                    labels: &$reported.labels,
                    read: $read,
                }
            }
        }
    )*};
}

reported! {
    CounterMetric: |metric| Read::Counter(metric.value);
    GaugeMetric: |metric| Read::Gauge(metric.value);
    HistogramMetric: |metric| Read::Histogram(metric);
}

/// A series that was checked and can be exported.
pub(super) struct Sample<'a> {
    pub(super) name: &'a str,
    pub(super) help: Option<&'a str>,
    /// Labels in text form.
    pub(super) labels: String,
    pub(super) reading: Reading,
}

/// Longest text of a number.
const NUMBER: usize = 24;

/// Bytes of a line or a header beside names, labels and numbers.
const LINE: usize = 32;

impl Sample<'_> {
    /// Returns the number of bytes that the series takes on a page, at most.
    pub(super) fn size(&self) -> usize {
        let line = self.name.len() + self.labels.len() + NUMBER + LINE;
        let header = 2 * self.name.len() + 2 * self.help.map_or(0, str::len) + 2 * LINE;
        match &self.reading {
            Reading::Counter(_) | Reading::Gauge(_) => header + line,
            // A line for each bucket, which names its bound, and three more.
            Reading::Histogram(histogram) => {
                header + (histogram.buckets.len() + 3) * (line + NUMBER)
            }
        }
    }
}

/// Rules by which series are checked.
pub(super) struct Rules<'a> {
    pub(super) max_labels: usize,
    pub(super) reserved_prefixes: &'a [String],
    /// Label that is added to each series and replaces a reported label of the same name.
    pub(super) label: Option<(&'a str, &'a str)>,
}

impl Rules<'_> {
    pub(super) fn check<'a>(&self, reported: Reported<'a>) -> Result<Sample<'a>, DropReason> {
        let name = reported.name;
        let is_histogram = matches!(reported.read, Read::Histogram(_));
        if !is_metric_name(name) || (is_histogram && is_part_of_histogram(name)) {
            return Err(DropReason::InvalidName);
        }
        let is_reserved = |prefix: &String| name.starts_with(prefix.as_str());
        if self.reserved_prefixes.iter().any(is_reserved) {
            return Err(DropReason::ReservedName);
        }
        Ok(Sample {
            name,
            help: reported.help.filter(|help| is_text(help)),
            labels: self.labels(reported.labels, &reported.read)?,
            reading: read(reported.read)?,
        })
    }

    fn labels(
        &self,
        labels: &HashMap<String, String>,
        read: &Read<'_>,
    ) -> Result<String, DropReason> {
        let is_histogram = matches!(read, Read::Histogram(_));
        let is_valid = |(name, value): (&String, &String)| {
            is_label_name(name) && is_text(value) && !(is_histogram && name == "le")
        };
        if labels.len() > self.max_labels || !labels.iter().all(is_valid) {
            return Err(DropReason::InvalidLabels);
        }
        let added = self.label;
        let reported = labels
            .iter()
            .map(|(name, value)| (name.as_str(), value.as_str()))
            // The added label overrides a reported one, so that an agent cannot pose as another.
            // In Prometheus an empty value means that the label is absent.
            .filter(|(name, value)| {
                !value.is_empty() && added.is_none_or(|(added, _)| added != *name)
            });
        Ok(write_labels(reported.chain(added)))
    }
}

fn read(read: Read<'_>) -> Result<Reading, DropReason> {
    match read {
        Read::Counter(count) => Ok(Reading::Counter(count)),
        Read::Gauge(value) if value.is_finite() => Ok(Reading::Gauge(value)),
        Read::Gauge(_) => Err(DropReason::InvalidValue),
        Read::Histogram(metric) if metric.sum.is_finite() => histogram(metric),
        Read::Histogram(_) => Err(DropReason::InvalidValue),
    }
}

/// Checks the buckets and drops the one without a bound: its count is `count` by definition,
/// whatever was reported. Agents on `zentinel-agent-protocol` report 0 there.
fn histogram(metric: &HistogramMetric) -> Result<Reading, DropReason> {
    if metric.buckets.len() > MAX_BUCKETS {
        return Err(DropReason::InvalidBuckets);
    }
    let has_bound = |bucket: &&HistogramBucket| bucket.le != f64::INFINITY;
    let mut buckets: Vec<_> = metric
        .buckets
        .iter()
        .filter(has_bound)
        .map(|bucket| (bucket.le, bucket.count))
        .collect();
    buckets.sort_by(|(one, _), (other, _)| one.total_cmp(other));
    // Compared as numbers, so that 0 and -0 are duplicate bounds.
    let ascends = |pair: &[(f64, u64)]| pair[0].0 < pair[1].0 && pair[0].1 <= pair[1].1;
    let fits = buckets.iter().all(|(le, _)| le.is_finite())
        && buckets.windows(2).all(ascends)
        && buckets
            .last()
            .is_none_or(|(_, count)| *count <= metric.count);
    if !fits {
        return Err(DropReason::InvalidBuckets);
    }
    Ok(Reading::Histogram(Arc::new(Histogram {
        sum: metric.sum,
        count: metric.count,
        buckets,
    })))
}

/// Returns whether a name ends like that of a histogram's sample. Some parsers would take such a
/// histogram for a part of another one.
fn is_part_of_histogram(name: &str) -> bool {
    ["_bucket", "_sum", "_count"]
        .iter()
        .any(|suffix| name.ends_with(suffix))
}

pub(super) fn is_metric_name(name: &str) -> bool {
    is_name(name, |byte| {
        byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b':')
    })
}

/// Names that begin with two underscores are reserved for Prometheus itself.
fn is_label_name(name: &str) -> bool {
    is_name(name, |byte| byte.is_ascii_alphanumeric() || byte == b'_') && !name.starts_with("__")
}

/// Control characters are rejected because some parsers take a carriage return for a line end.
/// Line feeds are escaped when written.
pub(super) fn is_text(text: &str) -> bool {
    text.len() <= MAX_TEXT_LEN && !text.chars().any(|char| char.is_control() && char != '\n')
}

fn is_name(name: &str, is_allowed: impl Fn(u8) -> bool) -> bool {
    (1..=MAX_NAME_LEN).contains(&name.len())
        && name.bytes().all(is_allowed)
        && !name.as_bytes()[0].is_ascii_digit()
}
