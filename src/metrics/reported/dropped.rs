//! Counters of dropped series.

/// Reason why a series is dropped.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum DropReason {
    /// The name is not a valid Prometheus name or longer than 200 bytes, or the name of a histogram
    /// ends in `_bucket`, `_sum` or `_count`.
    InvalidName,
    /// The name begins with one of the reserved prefixes.
    ReservedName,
    /// A label has an invalid or reserved name, or a value with control characters or of more than
    /// 1,024 bytes, or there are too many labels.
    InvalidLabels,
    /// The value is not a finite number.
    InvalidValue,
    /// The buckets of a histogram contradict each other, or there are more than 256.
    InvalidBuckets,
    /// The name belongs to a metric of another type.
    TypeConflict,
    /// The series was reported before: in the same report, or by another agent if series have no
    /// `agent_id` label.
    Duplicate,
    /// A limit of the number of series is reached.
    TooManySeries,
    /// The series would make the page of all metrics larger than a limit allows.
    TooManyBytes,
}

impl DropReason {
    const ALL: [Self; 9] = [
        Self::InvalidName,
        Self::ReservedName,
        Self::InvalidLabels,
        Self::InvalidValue,
        Self::InvalidBuckets,
        Self::TypeConflict,
        Self::Duplicate,
        Self::TooManySeries,
        Self::TooManyBytes,
    ];

    /// Returns the label value of the reason.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::InvalidName => "invalid_name",
            Self::ReservedName => "reserved_name",
            Self::InvalidLabels => "invalid_labels",
            Self::InvalidValue => "invalid_value",
            Self::InvalidBuckets => "invalid_buckets",
            Self::TypeConflict => "type_conflict",
            Self::Duplicate => "duplicate",
            Self::TooManySeries => "too_many_series",
            Self::TooManyBytes => "too_many_bytes",
        }
    }
}

/// Numbers of dropped series by reason. A series that every report repeats counts each time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct DroppedSeries {
    counts: [u64; DropReason::ALL.len()],
}

impl DroppedSeries {
    /// Returns the number for one reason.
    pub fn get(&self, reason: DropReason) -> u64 {
        self.counts[reason as usize]
    }

    /// Returns the number for all reasons together.
    pub fn total(&self) -> u64 {
        self.counts
            .iter()
            .fold(0, |total, count| total.saturating_add(*count))
    }

    /// Iterates over the reasons whose number is not 0.
    pub fn iter(&self) -> impl Iterator<Item = (DropReason, u64)> {
        DropReason::ALL
            .into_iter()
            .map(|reason| (reason, self.get(reason)))
            .filter(|(_, count)| *count > 0)
    }

    pub(super) fn add(&mut self, reason: DropReason, count: u64) {
        let sum = &mut self.counts[reason as usize];
        *sum = sum.saturating_add(count);
    }
}
