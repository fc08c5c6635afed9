/// Why a series is left out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum DropReason {
    /// The name is none that Prometheus takes, or longer than 200 bytes, or that of a histogram ends like that of one of
    /// its parts.
    InvalidName,
    /// The name begins with a prefix that belongs to the proxy.
    ReservedName,
    /// A label has a name that Prometheus does not take or that means something else, or is too long, or there are too
    /// many labels.
    InvalidLabels,
    /// The value is not a finite number.
    InvalidValue,
    /// The buckets of a histogram contradict each other, or there are too many.
    InvalidBuckets,
    /// The name belongs to a metric of another type.
    TypeConflict,
    /// The same series was given before: in the same report, or by another agent where the label that tells agents
    /// apart is switched off.
    Duplicate,
    /// There is no room for more series.
    TooManySeries,
}

impl DropReason {
    const ALL: [Self; 8] = [
        Self::InvalidName,
        Self::ReservedName,
        Self::InvalidLabels,
        Self::InvalidValue,
        Self::InvalidBuckets,
        Self::TypeConflict,
        Self::Duplicate,
        Self::TooManySeries,
    ];

    /// The reason as a label value.
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
        }
    }
}

/// How often a series was left out, by reason. A series that comes with every report counts each time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct DroppedSeries {
    counts: [u64; DropReason::ALL.len()],
}

impl DroppedSeries {
    /// How often for one reason.
    pub fn get(&self, reason: DropReason) -> u64 {
        self.counts[reason as usize]
    }

    /// How often in all.
    pub fn total(&self) -> u64 {
        self.counts
            .iter()
            .fold(0, |total, count| total.saturating_add(*count))
    }

    /// The reasons for which something was left out, and how often.
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
