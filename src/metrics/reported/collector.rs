use super::dropped::{DropReason, DroppedSeries};
use super::families::{Families, FamilySnapshot};
use super::reporters::{self, Reporters};
use super::sample::{Kind, Reported, Rules, Sample};
use super::text::Exposition;
use crate::protocol::MetricsReport;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// What a [`MetricsCollector`] keeps.
#[derive(Debug, Clone)]
pub struct MetricsCollectorConfig {
    /// Time after which a series that is not reported again is forgotten, 5 minutes by default.
    pub max_age: Duration,
    /// Series that are kept at once, 10,000 by default. A histogram is one.
    pub max_series: usize,
    /// The same for one agent, 1,000 by default, so that no agent takes the place of all others.
    pub max_series_per_agent: usize,
    /// Labels that a series may have, 32 by default.
    pub max_labels: usize,
    /// Whether series get the label `agent_id`. Without it a series belongs to the agent that reported it first.
    pub include_agent_id_label: bool,
    /// Beginnings of names that are not taken from agents, `tollgate_` by default: what else is exported on the same
    /// page belongs here.
    pub reserved_prefixes: Vec<String>,
}

impl Default for MetricsCollectorConfig {
    fn default() -> Self {
        Self {
            max_age: Duration::from_secs(5 * 60),
            max_series: 10_000,
            max_series_per_agent: 1_000,
            max_labels: 32,
            include_agent_id_label: true,
            reserved_prefixes: vec!["tollgate_".to_owned()],
        }
    }
}

/// Keeps what agents report of themselves, and exports it.
///
/// A pool has one ([`AgentPool::metrics_collector`](crate::AgentPool::metrics_collector)), which gets every report
/// of its agents. What would break a scrape is left out and counted: names and labels that Prometheus does not take,
/// values that are no numbers, contradictory buckets, one name for two types, series beyond the limits.
///
/// ```
/// use tollgate::{CounterMetric, MetricsCollector, MetricsReport};
///
/// let collector = MetricsCollector::new();
/// let mut report = MetricsReport::new("waf", 10_000);
/// report.counters.push(CounterMetric::new("waf_blocked_total", 7));
/// report.counters.push(CounterMetric::new("no name", 1));
/// collector.record(&report);
///
/// let text = collector.export_prometheus();
/// assert!(text.contains("waf_blocked_total{agent_id=\"waf\"} 7"));
/// assert_eq!(collector.dropped_series(), 1);
/// ```
#[derive(Debug, Default)]
pub struct MetricsCollector {
    config: MetricsCollectorConfig,
    /// Held for the time of a report or a snapshot, never while text is written.
    kept: Mutex<Kept>,
}

#[derive(Debug, Default)]
struct Kept {
    families: Families<Origin>,
    reporters: Reporters,
    dropped: DroppedSeries,
    /// Counts reports.
    round: u64,
}

/// Where a series comes from.
#[derive(Debug)]
struct Origin {
    agent_id: Arc<str>,
    updated: Instant,
    /// The report that it came with last.
    round: u64,
}

impl MetricsCollector {
    /// A collector with the default limits.
    pub fn new() -> Self {
        Self::default()
    }

    /// A collector with other limits.
    pub fn with_config(config: MetricsCollectorConfig) -> Self {
        Self {
            config,
            kept: Mutex::default(),
        }
    }

    /// Takes a report under the name that the report gives.
    pub fn record(&self, report: &MetricsReport) {
        self.record_from(&report.agent_id, report);
    }

    /// Takes a report under the name that the proxy knows the agent by, whatever the report says.
    pub fn record_from(&self, agent_id: &str, report: &MetricsReport) {
        let drops = self.kept().record(&self.config, agent_id, report);
        for drops in drops {
            drops.log(agent_id);
        }
    }

    /// Forgets series and agents that have not been reported for too long. The pool does so by itself, and an export
    /// never shows them.
    pub fn expire_old_metrics(&self) {
        self.kept().expire(&self.config);
    }

    /// Forgets everything that an agent has reported.
    pub fn forget_agent(&self, agent_id: &str) {
        let mut kept = self.kept();
        kept.families.retain(|origin| *origin.agent_id != *agent_id);
        kept.reporters.retain(|id, _| id != agent_id);
    }

    /// Series that are kept.
    pub fn series_count(&self) -> usize {
        self.kept().families.len()
    }

    /// How often a series was left out, for whatever reason. One that comes with every report counts each time.
    pub fn dropped_series(&self) -> u64 {
        self.kept().dropped.total()
    }

    /// The same by reason.
    pub fn dropped(&self) -> DroppedSeries {
        self.kept().dropped
    }

    /// The agents that have reported within [`max_age`](MetricsCollectorConfig::max_age), in alphabetical order.
    pub fn active_agents(&self) -> Vec<String> {
        self.current().reporters.ids()
    }

    /// Everything in the text format of Prometheus, with what is known of the reports themselves: see
    /// docs/operations.md.
    pub fn export_prometheus(&self) -> String {
        let mut out = Exposition::default();
        self.write_besides(&mut out, |_| true);
        out.finish()
    }

    /// What is kept at this moment.
    pub fn snapshot(&self) -> MetricsSnapshot {
        let kept = self.current();
        let count = |kind| kept.families.count(kind);
        MetricsSnapshot {
            counters: count(Kind::Counter),
            gauges: count(Kind::Gauge),
            histograms: count(Kind::Histogram),
        }
    }

    /// Writes the metrics for which `fits` says yes; returns how many series that left out.
    pub(super) fn write_besides(
        &self,
        out: &mut Exposition,
        fits: impl Fn(&FamilySnapshot) -> bool,
    ) -> usize {
        let (families, reporters) = {
            let kept = self.current();
            (kept.families.snapshot(), kept.reporters.snapshot())
        };
        let mut left_out = 0;
        for family in families {
            if fits(&family) {
                family.write(out);
            } else {
                left_out += family.len();
            }
        }
        reporters::write(&reporters, Instant::now(), out);
        left_out
    }

    fn current(&self) -> MutexGuard<'_, Kept> {
        let mut kept = self.kept();
        kept.expire(&self.config);
        kept
    }

    /// A panic while the lock is held could at worst have lost a series.
    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// How many series are kept of each kind, at one moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MetricsSnapshot {
    counters: usize,
    gauges: usize,
    histograms: usize,
}

impl MetricsSnapshot {
    /// Series of counters.
    pub fn counter_count(&self) -> usize {
        self.counters
    }

    /// Series of gauges.
    pub fn gauge_count(&self) -> usize {
        self.gauges
    }

    /// Histograms.
    pub fn histogram_count(&self) -> usize {
        self.histograms
    }
}

impl Kept {
    /// Takes a report; returns what was left out.
    fn record(
        &mut self,
        config: &MetricsCollectorConfig,
        agent_id: &str,
        report: &MetricsReport,
    ) -> Vec<Drops> {
        let now = Instant::now();
        self.round += 1;
        if self.families.len() >= config.max_series {
            self.expire(config);
        }
        let mut drops = Vec::new();
        let reported = all_series(report);
        let too_many = reported.len().saturating_sub(config.max_series_per_agent);
        let Some(id) = self.reporters.note(agent_id, now, config.max_series) else {
            let name = report.agent_id.as_str();
            self.drop(
                &mut drops,
                agent_id,
                DropReason::TooManySeries,
                reported.len(),
                name,
            );
            return drops;
        };
        let rules = Rules {
            max_labels: config.max_labels,
            reserved_prefixes: &config.reserved_prefixes,
            label: config
                .include_agent_id_label
                .then_some(("agent_id", agent_id)),
        };
        // However long a report is, no more of it is looked at than could be kept.
        for series in reported.into_iter().take(config.max_series_per_agent) {
            let name = series.name;
            let kept = rules
                .check(series)
                .and_then(|sample| self.put(config, sample, &id, now));
            if let Err(reason) = kept {
                self.drop(&mut drops, agent_id, reason, 1, name);
            }
        }
        if too_many > 0 {
            let reason = DropReason::TooManySeries;
            self.drop(
                &mut drops,
                agent_id,
                reason,
                too_many,
                "the rest of the report",
            );
        }
        drops
    }

    fn put(
        &mut self,
        config: &MetricsCollectorConfig,
        sample: Sample<'_>,
        agent_id: &Arc<str>,
        now: Instant,
    ) -> Result<(), DropReason> {
        let round = self.round;
        if let Some(series) = self.families.find(&sample)? {
            if series.note.round == round || series.note.agent_id != *agent_id {
                return Err(DropReason::Duplicate);
            }
            series.reading = sample.reading;
            series.note.updated = now;
            series.note.round = round;
            return Ok(());
        }
        let has_room = self.families.len() < config.max_series
            && self.reporters.series_of(agent_id) < config.max_series_per_agent;
        if !has_room {
            return Err(DropReason::TooManySeries);
        }
        let origin = Origin {
            agent_id: Arc::clone(agent_id),
            updated: now,
            round,
        };
        self.families.insert(sample, origin);
        self.reporters
            .edit(agent_id, |reporter| reporter.series += 1);
        Ok(())
    }

    fn drop(
        &mut self,
        drops: &mut Vec<Drops>,
        agent_id: &str,
        reason: DropReason,
        count: usize,
        example: &str,
    ) {
        let count = count as u64;
        self.dropped.add(reason, count);
        let total = self.reporters.dropped(agent_id, reason, count);
        match drops.iter_mut().find(|drops| drops.reason == reason) {
            Some(drops) => drops.total = total,
            None => drops.push(Drops {
                reason,
                before: total - count,
                total,
                example: shortened(example),
            }),
        }
    }

    fn expire(&mut self, config: &MetricsCollectorConfig) {
        let now = Instant::now();
        let is_current = |at: Instant| now.saturating_duration_since(at) < config.max_age;
        let Self {
            families,
            reporters,
            ..
        } = self;
        families.retain(|origin| {
            let keep = is_current(origin.updated);
            if !keep {
                reporters.edit(&origin.agent_id, |reporter| reporter.series -= 1);
            }
            keep
        });
        reporters.retain(|_, reporter| is_current(reporter.last_report));
    }
}

/// What one report had left out for one reason.
#[derive(Debug)]
struct Drops {
    reason: DropReason,
    /// How often that happened to the agent before the report, and with it.
    before: u64,
    total: u64,
    /// The first series that was left out.
    example: String,
}

impl Drops {
    /// Logs the report in which the 1st, 2nd, 4th, 8th … series of an agent is left out for one reason.
    fn log(&self, agent_id: &str) {
        if self.total.checked_ilog2() > self.before.checked_ilog2() {
            tracing::warn!(
                agent = agent_id,
                count = self.total,
                reason = self.reason.as_str(),
                "a reported metric is left out: {:?}",
                self.example
            );
        }
    }
}

fn all_series(report: &MetricsReport) -> Vec<Reported<'_>> {
    let counters = report.counters.iter().map(Reported::from);
    let gauges = report.gauges.iter().map(Reported::from);
    let histograms = report.histograms.iter().map(Reported::from);
    counters.chain(gauges).chain(histograms).collect()
}

/// Enough of a name to find it by.
fn shortened(name: &str) -> String {
    name.chars().take(100).collect()
}
