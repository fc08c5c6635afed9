//! The store of reported metrics.

use super::dropped::{DropReason, DroppedSeries};
use super::families::{Families, FamilySnapshot};
use super::reporters::{self, Reporters};
use super::sample::{Kind, Reported, Rules, Sample, is_text};
use super::text::Exposition;
use crate::clock;
use crate::configuration::configuration;
use crate::lock::lock;
use crate::log::log_line;
use crate::memory::{MemoryBudget, MemoryCharge};
use crate::protocol::MetricsReport;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

configuration! {
    /// Limits of a [`MetricsCollector`].
    #[derive(Debug, Clone)]
    #[non_exhaustive]
    pub struct MetricsCollectorConfig {
        /// Time after which a series that is not reported again is removed, 5 minutes by default.
        pub max_age: Duration,
        /// Maximum number of series of all agents, 10,000 by default. A histogram counts as one.
        pub max_series: usize,
        /// Maximum number of series of one agent, 1,000 by default, so that no agent can use up the
        /// limit of all.
        pub max_series_per_agent: usize,
        /// Maximum number of bytes that the series of all agents take on the page, 16 MiB by
        /// default.
        pub max_bytes: usize,
        /// Maximum number of bytes that the series of one agent take on the page, 2 MiB by default.
        /// Labels count for each bucket of a histogram, as they are repeated there.
        pub max_bytes_per_agent: usize,
        /// Maximum number of labels of one series, 32 by default.
        pub max_labels: usize,
        /// Set if exported series get the label `agent_id`, which they do by default. Without it a
        /// series belongs to the agent that reported it first.
        pub include_agent_id_label: bool,
        /// Prefixes of metric names that agents may not report, `tollgate_` by default. Add the
        /// prefixes of other metrics that are exported on the same page.
        pub reserved_prefixes: Vec<String>,
    }
}

impl Default for MetricsCollectorConfig {
    fn default() -> Self {
        Self {
            max_age: Duration::from_secs(5 * 60),
            max_series: 10_000,
            max_series_per_agent: 1_000,
            max_bytes: 16 << 20,
            max_bytes_per_agent: 2 << 20,
            max_labels: 32,
            include_agent_id_label: true,
            reserved_prefixes: vec!["tollgate_".to_owned()],
        }
    }
}

/// Store of the metrics that agents report, and their exporter.
///
/// A pool has one ([`AgentPool::metrics_collector`](crate::AgentPool::metrics_collector)), which
/// records every report of its agents. Series that would break a scrape are dropped and counted:
/// invalid names and labels, values that are not finite, contradictory buckets, one name for two
/// types, and series beyond the limits of their number and of the size of the page.
///
/// ```
/// use tollgate::{control::{CounterMetric, MetricsReport}, metrics::MetricsCollector};
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
#[derive(Debug)]
pub struct MetricsCollector {
    config: MetricsCollectorConfig,
    /// Locked while a report is recorded or a snapshot taken, never while text is written.
    store: Mutex<Store>,
}

#[derive(Debug)]
struct Store {
    families: Families<Origin>,
    /// Charge for the bytes of `families`.
    charge: MemoryCharge,
    reporters: Reporters,
    dropped: DroppedSeries,
    /// Number of reports recorded so far.
    round: u64,
}

/// Origin of a series.
#[derive(Debug)]
struct Origin {
    agent_id: Arc<str>,
    updated: Instant,
    /// Number of the most recent report that contained it.
    round: u64,
}

impl MetricsCollector {
    /// Creates an empty collector with the default limits.
    pub fn new() -> Self {
        Self::with_config(MetricsCollectorConfig::default())
    }

    /// Creates an empty collector with other limits.
    pub fn with_config(config: MetricsCollectorConfig) -> Self {
        Self::charged_to(&MemoryBudget::new(usize::MAX), config)
    }

    /// Creates an empty collector whose series are charged to a budget.
    pub(crate) fn charged_to(budget: &MemoryBudget, config: MetricsCollectorConfig) -> Self {
        let store = Store {
            families: Families::default(),
            charge: budget.open_charge(),
            reporters: Reporters::default(),
            dropped: DroppedSeries::default(),
            round: 0,
        };
        Self {
            config,
            store: Mutex::new(store),
        }
    }

    /// Records a report under the agent id that the report contains.
    pub fn record(&self, report: &MetricsReport) {
        self.record_from(&report.agent_id, report);
    }

    /// Records a report under the proxy's id of the agent, ignoring the id in the report.
    pub fn record_from(&self, agent_id: &str, report: &MetricsReport) {
        let drops = lock(&self.store).record(&self.config, agent_id, report);
        for drops in drops {
            drops.log(agent_id);
        }
    }

    /// Removes series and agents that have not been reported for
    /// [`max_age`](MetricsCollectorConfig::max_age). The pool does so periodically, and exports
    /// never contain them.
    pub fn expire_old_metrics(&self) {
        lock(&self.store).expire(&self.config);
    }

    /// Removes all series of an agent.
    pub fn forget_agent(&self, agent_id: &str) {
        let mut store = lock(&self.store);
        store
            .families
            .retain(|series| *series.note.agent_id != *agent_id);
        store.reporters.retain(|id, _| id != agent_id);
        store.update_charge();
    }

    /// Returns the number of stored series.
    pub fn series_count(&self) -> usize {
        lock(&self.store).families.len()
    }

    /// Returns how often a series was dropped, for any reason. A series that every report repeats
    /// counts each time.
    pub fn dropped_series(&self) -> u64 {
        lock(&self.store).dropped.total()
    }

    /// Returns how often a series was dropped, by reason.
    pub fn dropped(&self) -> DroppedSeries {
        lock(&self.store).dropped
    }

    /// Returns the agents that have reported within [`max_age`](MetricsCollectorConfig::max_age),
    /// in alphabetical order.
    pub fn active_agents(&self) -> Vec<String> {
        self.current().reporters.ids()
    }

    /// Returns all stored metrics in the Prometheus text format, with metrics about the reports
    /// themselves: see docs/operations.md.
    pub fn export_prometheus(&self) -> String {
        let mut out = Exposition::default();
        self.write_besides(&mut out, |_| true);
        out.finish()
    }

    /// Returns the current numbers of series.
    pub fn snapshot(&self) -> MetricsSnapshot {
        let store = self.current();
        let count = |kind| store.families.count(kind);
        MetricsSnapshot {
            counters: count(Kind::Counter),
            gauges: count(Kind::Gauge),
            histograms: count(Kind::Histogram),
        }
    }

    /// Writes the metrics for which `fits` returns `true`. Returns the number of series that were
    /// not written.
    pub(super) fn write_besides(
        &self,
        out: &mut Exposition,
        fits: impl Fn(&FamilySnapshot) -> bool,
    ) -> usize {
        let (families, reporters) = {
            let store = self.current();
            (store.families.snapshot(), store.reporters.snapshot())
        };
        let mut skipped = 0;
        for family in families {
            if fits(&family) {
                family.write(out);
            } else {
                skipped += family.len();
            }
        }
        reporters::write(&reporters, clock::now(), out);
        skipped
    }

    /// Removes expired series and locks the store.
    fn current(&self) -> MutexGuard<'_, Store> {
        let mut store = lock(&self.store);
        store.expire(&self.config);
        store
    }
}

impl Default for MetricsCollector {
    fn default() -> Self {
        Self::new()
    }
}

/// Numbers of stored series by kind, at one moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MetricsSnapshot {
    counters: usize,
    gauges: usize,
    histograms: usize,
}

impl MetricsSnapshot {
    /// Returns the number of counter series.
    pub fn counter_count(&self) -> usize {
        self.counters
    }

    /// Returns the number of gauge series.
    pub fn gauge_count(&self) -> usize {
        self.gauges
    }

    /// Returns the number of histograms.
    pub fn histogram_count(&self) -> usize {
        self.histograms
    }
}

impl Store {
    /// Records a report and returns the series that were dropped, by reason.
    fn record(
        &mut self,
        config: &MetricsCollectorConfig,
        agent_id: &str,
        report: &MetricsReport,
    ) -> Vec<DroppedInReport> {
        let now = clock::now();
        self.round += 1;
        if self.families.len() >= config.max_series {
            self.expire(config);
        }
        let mut drops = Vec::new();
        let reported = all_series(report);
        let excess = reported.len().saturating_sub(config.max_series_per_agent);
        let noted = if is_text(agent_id) {
            let noted = self.reporters.note(agent_id, now, config.max_series);
            noted.ok_or(DropReason::TooManySeries)
        } else {
            Err(DropReason::InvalidLabels)
        };
        let id = match noted {
            Ok(id) => id,
            Err(reason) => {
                let name = report.agent_id.as_str();
                self.drop(&mut drops, agent_id, reason, reported.len(), name);
                return drops;
            }
        };
        let rules = Rules {
            max_labels: config.max_labels,
            reserved_prefixes: &config.reserved_prefixes,
            label: config
                .include_agent_id_label
                .then_some(("agent_id", agent_id)),
        };
        // Series beyond the limit of one agent are not even checked, so that the cost of a report
        // is bounded however long it is.
        for series in reported.into_iter().take(config.max_series_per_agent) {
            let name = series.name;
            let stored = rules
                .check(series)
                .and_then(|sample| self.put(config, sample, &id, now));
            if let Err(reason) = stored {
                self.drop(&mut drops, agent_id, reason, 1, name);
            }
        }
        if excess > 0 {
            let reason = DropReason::TooManySeries;
            self.drop(
                &mut drops,
                agent_id,
                reason,
                excess,
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
        let size = sample.size();
        let known = self.families.find(&sample)?;
        let known_size = known.as_ref().map(|series| series.size());
        if let Some(series) = &known
            && (series.note.round == round || series.note.agent_id != *agent_id)
        {
            return Err(DropReason::Duplicate);
        }
        let (of_agent, bytes_of_agent) = self.reporters.usage_of(agent_id);
        let is_new = known_size.is_none();
        if is_new
            && (self.families.len() >= config.max_series || of_agent >= config.max_series_per_agent)
        {
            return Err(DropReason::TooManySeries);
        }
        let grows_by = size.saturating_sub(known_size.unwrap_or(0));
        let bytes = self.families.bytes() + grows_by;
        if bytes > config.max_bytes
            || bytes_of_agent + grows_by > config.max_bytes_per_agent
            || !self.charge.resize(bytes)
        {
            return Err(DropReason::TooManyBytes);
        }
        let origin = Origin {
            agent_id: Arc::clone(agent_id),
            updated: now,
            round,
        };
        self.families.put(sample, origin);
        self.update_charge();
        self.reporters.edit(agent_id, |reporter| {
            reporter.series += usize::from(is_new);
            reporter.bytes = reporter.bytes + size - known_size.unwrap_or(0);
        });
        Ok(())
    }

    fn drop(
        &mut self,
        drops: &mut Vec<DroppedInReport>,
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
            None => drops.push(DroppedInReport {
                reason,
                before: total - count,
                total,
                example: shortened(example),
            }),
        }
    }

    fn expire(&mut self, config: &MetricsCollectorConfig) {
        let now = clock::now();
        let is_current = |at: Instant| now.saturating_duration_since(at) < config.max_age;
        let Self {
            families,
            reporters,
            ..
        } = self;
        families.retain(|series| {
            let keep = is_current(series.note.updated);
            if !keep {
                reporters.edit(&series.note.agent_id, |reporter| {
                    reporter.series -= 1;
                    reporter.bytes -= series.size();
                });
            }
            keep
        });
        reporters.retain(|_, reporter| is_current(reporter.last_report));
        self.update_charge();
    }

    /// Adapts the charge to series that were removed or have become smaller.
    fn update_charge(&mut self) {
        self.charge.resize(self.families.bytes());
    }
}

/// Series of one report that were dropped for one reason.
#[derive(Debug)]
struct DroppedInReport {
    reason: DropReason,
    /// Number of the agent's series dropped for this reason before the report.
    before: u64,
    /// Number of them including the report.
    total: u64,
    /// Name of the first series that was dropped.
    example: String,
}

impl DroppedInReport {
    /// Logs the report if it contains the 1st, 2nd, 4th, 8th … series of the agent that is dropped
    /// for this reason.
    fn log(&self, agent_id: &str) {
        if self.total.checked_ilog2() > self.before.checked_ilog2() {
            let (count, reason) = (self.total, self.reason.as_str());
            log_line!(
                kind = reason, warn, agent_id, { agent = agent_id, reason } (count),
                "reported metric dropped: {:?}", self.example
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

/// Limits the length of an untrusted name in the log.
fn shortened(name: &str) -> String {
    name.chars().take(100).collect()
}
