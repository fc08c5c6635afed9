//! Storage of metrics by name, each with its series.

use super::dropped::DropReason;
use super::sample::{Kind, Reading, Sample};
use super::text::Exposition;
use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

/// Metrics that can be exported together: no two have samples of the same name.
///
/// `T` is a note stored with each series.
#[derive(Debug)]
pub(super) struct Families<T> {
    by_name: BTreeMap<Arc<str>, Family<T>>,
    /// Names of all samples, such as `x_sum` for a histogram `x`.
    taken: HashSet<String>,
    series: usize,
    /// Sum of the sizes of all series.
    bytes: usize,
}

#[derive(Debug)]
struct Family<T> {
    kind: Kind,
    help: Option<Arc<str>>,
    /// Series by their labels in text form.
    series: BTreeMap<Arc<str>, Series<T>>,
}

/// A series and the note stored with it.
#[derive(Debug)]
pub(super) struct Series<T> {
    pub(super) reading: Reading,
    /// [`Sample::size`] of its last reading.
    size: usize,
    pub(super) note: T,
}

impl<T> Series<T> {
    pub(super) fn size(&self) -> usize {
        self.size
    }
}

impl<T> Default for Families<T> {
    fn default() -> Self {
        Self {
            by_name: BTreeMap::new(),
            taken: HashSet::new(),
            series: 0,
            bytes: 0,
        }
    }
}

impl<T> Families<T> {
    pub(super) fn len(&self) -> usize {
        self.series
    }

    /// Returns the number of bytes that all series take on a page, at most.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    pub(super) fn count(&self, kind: Kind) -> usize {
        self.by_name
            .values()
            .filter(|family| family.kind == kind)
            .map(|family| family.series.len())
            .sum()
    }

    /// Returns the series of a sample if it exists. Fails if the name conflicts with another
    /// metric.
    pub(super) fn find(
        &mut self,
        sample: &Sample<'_>,
    ) -> Result<Option<&mut Series<T>>, DropReason> {
        let kind = sample.reading.kind();
        match self.by_name.get_mut(sample.name) {
            Some(family) if family.kind == kind => {
                Ok(family.series.get_mut(sample.labels.as_str()))
            }
            Some(_) => Err(DropReason::TypeConflict),
            None => {
                let names = kind.names(sample.name);
                if names.iter().any(|name| self.taken.contains(name)) {
                    return Err(DropReason::TypeConflict);
                }
                Ok(None)
            }
        }
    }

    /// Stores a sample for which [`find`](Self::find) has reported no conflict, in place of an
    /// earlier one of its series.
    pub(super) fn put(&mut self, sample: Sample<'_>, note: T) {
        let size = sample.size();
        let Sample {
            name,
            help,
            labels,
            reading,
        } = sample;
        if !self.by_name.contains_key(name) {
            let family = Family {
                kind: reading.kind(),
                help: help.map(Arc::from),
                series: BTreeMap::new(),
            };
            self.taken.extend(family.kind.names(name));
            self.by_name.insert(name.into(), family);
        }
        if let Some(family) = self.by_name.get_mut(name) {
            let series = Series {
                reading,
                size,
                note,
            };
            let replaced = family.series.insert(labels.into(), series);
            self.series += usize::from(replaced.is_none());
            self.bytes += size;
            self.bytes -= replaced.map_or(0, |series| series.size);
        }
    }

    /// Removes the series for which `keep` returns `false`.
    pub(super) fn retain(&mut self, mut keep: impl FnMut(&Series<T>) -> bool) {
        let Self {
            by_name,
            taken,
            series,
            bytes,
        } = self;
        by_name.retain(|name, family| {
            let before = family.series.len();
            family.series.retain(|_, series| {
                let is_kept = keep(series);
                *bytes -= if is_kept { 0 } else { series.size };
                is_kept
            });
            *series -= before - family.series.len();
            if family.series.is_empty() {
                for name in family.kind.names(name) {
                    taken.remove(&name);
                }
            }
            !family.series.is_empty()
        });
    }

    /// Copies all metrics. Cheap, because names and histograms are shared, so a lock is held
    /// briefly.
    pub(super) fn snapshot(&self) -> Vec<FamilySnapshot> {
        let snapshot = |(name, family): (&Arc<str>, &Family<T>)| FamilySnapshot {
            name: Arc::clone(name),
            kind: family.kind,
            help: family.help.clone(),
            series: family
                .series
                .iter()
                .map(|(labels, series)| (Arc::clone(labels), series.reading.clone()))
                .collect(),
        };
        self.by_name.iter().map(snapshot).collect()
    }

    /// Returns whether a metric has samples of the same name as one of these.
    pub(super) fn collides_with(&self, family: &FamilySnapshot) -> bool {
        let names = family.kind.names(&family.name);
        names.iter().any(|name| self.taken.contains(name))
    }
}

/// A metric with its series, at one moment.
#[derive(Debug)]
pub(super) struct FamilySnapshot {
    name: Arc<str>,
    kind: Kind,
    help: Option<Arc<str>>,
    series: Vec<(Arc<str>, Reading)>,
}

impl FamilySnapshot {
    pub(super) fn len(&self) -> usize {
        self.series.len()
    }

    pub(super) fn write(&self, out: &mut Exposition) {
        out.begin(&self.name, self.help.as_deref(), self.kind);
        for (labels, reading) in &self.series {
            out.series(&self.name, labels, reading);
        }
    }
}
