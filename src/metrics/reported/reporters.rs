//! The agents that report metrics.

use super::dropped::{DropReason, DroppedSeries};
use super::labels::write_labels;
use super::sample::{Kind, Reading};
use super::text::Exposition;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

/// The agents that have reported within the maximum age.
#[derive(Debug, Default)]
pub(super) struct Reporters {
    by_id: BTreeMap<Arc<str>, Reporter>,
}

/// Data about one agent that reports.
#[derive(Debug, Clone)]
pub(super) struct Reporter {
    pub(super) last_report: Instant,
    pub(super) series: usize,
    /// Number of bytes that its series take on a page, at most.
    pub(super) bytes: usize,
    pub(super) dropped: DroppedSeries,
}

impl Reporters {
    /// Notes a report of an agent and returns its shared id; `None` if the agent is new and there
    /// are `max` agents already.
    pub(super) fn note(&mut self, agent_id: &str, now: Instant, max: usize) -> Option<Arc<str>> {
        if let Some((id, _)) = self.by_id.get_key_value(agent_id) {
            let id = Arc::clone(id);
            self.edit(agent_id, |reporter| reporter.last_report = now);
            return Some(id);
        }
        if self.by_id.len() >= max {
            return None;
        }
        let id: Arc<str> = agent_id.into();
        let reporter = Reporter {
            last_report: now,
            series: 0,
            bytes: 0,
            dropped: DroppedSeries::default(),
        };
        self.by_id.insert(Arc::clone(&id), reporter);
        Some(id)
    }

    /// Returns the number of an agent's series, and of the bytes that they take on a page.
    pub(super) fn usage_of(&self, agent_id: &str) -> (usize, usize) {
        self.by_id
            .get(agent_id)
            .map_or((0, 0), |reporter| (reporter.series, reporter.bytes))
    }

    pub(super) fn edit(&mut self, agent_id: &str, edit: impl FnOnce(&mut Reporter)) {
        if let Some(reporter) = self.by_id.get_mut(agent_id) {
            edit(reporter);
        }
    }

    /// Counts dropped series and returns the agent's total for the reason.
    pub(super) fn dropped(&mut self, agent_id: &str, reason: DropReason, count: u64) -> u64 {
        self.by_id.get_mut(agent_id).map_or(count, |reporter| {
            reporter.dropped.add(reason, count);
            reporter.dropped.get(reason)
        })
    }

    pub(super) fn retain(&mut self, mut keep: impl FnMut(&str, &Reporter) -> bool) {
        self.by_id.retain(|id, reporter| keep(id, reporter));
    }

    pub(super) fn ids(&self) -> Vec<String> {
        self.by_id.keys().map(|id| id.to_string()).collect()
    }

    pub(super) fn snapshot(&self) -> Vec<(Arc<str>, Reporter)> {
        self.by_id
            .iter()
            .map(|(id, reporter)| (Arc::clone(id), reporter.clone()))
            .collect()
    }
}

/// Writes the metrics about the reports themselves.
pub(super) fn write(reporters: &[(Arc<str>, Reporter)], now: Instant, out: &mut Exposition) {
    if reporters.is_empty() {
        return;
    }
    let name = "tollgate_reported_series";
    let help = "Stored series of an agent's reports.";
    write_gauge(reporters, name, help, out, |reporter| {
        reporter.series as f64
    });
    let name = "tollgate_reported_age_seconds";
    let help = "Time since an agent's last report.";
    write_gauge(reporters, name, help, out, |reporter| {
        let age = now.saturating_duration_since(reporter.last_report);
        age.as_secs_f64()
    });
    write_dropped(reporters, out);
}

fn write_gauge(
    reporters: &[(Arc<str>, Reporter)],
    name: &str,
    help: &str,
    out: &mut Exposition,
    read: impl Fn(&Reporter) -> f64,
) {
    out.begin(name, Some(help), Kind::Gauge);
    for (id, reporter) in reporters {
        let labels = write_labels([("agent_id", &**id)]);
        out.series(name, &labels, &Reading::Gauge(read(reporter)));
    }
}

fn write_dropped(reporters: &[(Arc<str>, Reporter)], out: &mut Exposition) {
    const NAME: &str = "tollgate_reported_series_dropped_total";
    let mut dropped = reporters
        .iter()
        .flat_map(|(id, reporter)| {
            let counts = reporter.dropped.iter().collect::<Vec<_>>();
            counts.into_iter().map(move |(reason, count)| {
                let labels = write_labels([("agent_id", &**id), ("reason", reason.as_str())]);
                (labels, count)
            })
        })
        .peekable();
    if dropped.peek().is_none() {
        return;
    }
    let help = "Reported series that were dropped, by reason.";
    out.begin(NAME, Some(help), Kind::Counter);
    for (labels, count) in dropped {
        out.series(NAME, &labels, &Reading::Counter(count));
    }
}
