//! Export of the proxy's own metrics together with those of its agents.

use super::collector::{MetricsCollector, MetricsCollectorConfig};
use super::dropped::{DropReason, DroppedSeries};
use super::families::Families;
use super::labels::write_labels;
use super::sample::{Histogram, Kind, Read, Reading, Reported, Rules, Sample, is_metric_name};
use super::text::Exposition;
use crate::configuration::setters;
use crate::lock::lock;
use crate::protocol::MetricsReport;
use std::collections::HashMap;
use std::sync::{Arc, Mutex};

/// Default name of the gauge that carries the service and the instance as labels.
const INFO_METRIC: &str = "tollgate_info";

/// Maximum number of the proxy's own series.
const MAX_SERIES: usize = 10_000;

/// Maximum number of bytes that the proxy's own series take on the page.
const MAX_BYTES: usize = 16 << 20;

/// Maximum number of labels of one of the proxy's own series.
const MAX_LABELS: usize = 32;

/// Aggregator of the proxy's own metrics and those that its agents report, for export on one page.
///
/// The proxy's own series are limited (10,000 series, 32 labels each, 16 MiB on the page; see
/// [`with_own_limits`](Self::with_own_limits)) and
/// checked in the same way as reported ones. Invalid ones are dropped and counted
/// ([`UnifiedMetricsAggregator::dropped`]). If an agent reports a metric of the same name as one of
/// the proxy's, only the proxy's is exported.
///
/// ```
/// use tollgate::{AgentPool, metrics::UnifiedMetricsAggregator};
///
/// let pool = AgentPool::new();
/// let collector = pool.metrics_collector().clone();
/// let metrics =
///     UnifiedMetricsAggregator::with_collector("gateway", "node-1", collector);
/// metrics.increment_counter("http_requests_total", "Requests.", Default::default(), 1);
/// assert!(metrics.export_prometheus().contains("\nhttp_requests_total 1\n"));
/// ```
#[derive(Debug)]
pub struct UnifiedMetricsAggregator {
    service_name: String,
    instance_id: String,
    info_metric: String,
    agents_comment: Option<String>,
    max_series: usize,
    max_bytes: usize,
    own: Mutex<ProxySeries>,
    agents: Arc<MetricsCollector>,
}

/// The proxy's own series.
#[derive(Debug, Default)]
struct ProxySeries {
    families: Families<()>,
    dropped: DroppedSeries,
}

impl UnifiedMetricsAggregator {
    /// Creates an empty aggregator with the default limits. Pass reports of agents to
    /// [`UnifiedMetricsAggregator::record_agent_metrics`].
    pub fn new(service_name: impl Into<String>, instance_id: impl Into<String>) -> Self {
        Self::with_agent_config(service_name, instance_id, MetricsCollectorConfig::default())
    }

    /// Like [`UnifiedMetricsAggregator::new`], with other limits for reported metrics.
    pub fn with_agent_config(
        service_name: impl Into<String>,
        instance_id: impl Into<String>,
        agent_config: MetricsCollectorConfig,
    ) -> Self {
        let agents = MetricsCollector::with_config(agent_config);
        Self::with_collector(service_name, instance_id, Arc::new(agents))
    }

    /// Creates an aggregator that exports the metrics of an existing collector, such as a pool's.
    pub fn with_collector(
        service_name: impl Into<String>,
        instance_id: impl Into<String>,
        agents: Arc<MetricsCollector>,
    ) -> Self {
        Self {
            service_name: service_name.into(),
            instance_id: instance_id.into(),
            info_metric: INFO_METRIC.to_owned(),
            agents_comment: None,
            max_series: MAX_SERIES,
            max_bytes: MAX_BYTES,
            own: Mutex::default(),
            agents,
        }
    }

    setters! {
        /// Sets the name of the gauge that carries the service and the instance as labels,
        /// `tollgate_info` by default. A text that is not a valid name of a metric is ignored.
        with_info_metric(self, name: impl Into<String>) => {
            let name = name.into();
            if is_metric_name(&name) {
                self.info_metric = name;
            }
        };

        /// Sets a comment that is written before the metrics of agents, such as `Agent metrics`.
        /// Without one there is none, which is what parsers of OpenMetrics need. Control characters
        /// are left out.
        with_agents_comment(self, comment: impl Into<String>) => {
            let mut comment = comment.into();
            comment.retain(|char| !char.is_control());
            self.agents_comment = Some(comment);
        };

        /// Sets the limits of the proxy's own series: their number, and the bytes that they take on
        /// the page.
        with_own_limits(self, series: usize, bytes: usize) =>
            (self.max_series, self.max_bytes) = (series, bytes);
    }

    /// Returns the collector of the metrics that agents report.
    pub fn agent_collector(&self) -> &MetricsCollector {
        &self.agents
    }

    /// Adds to one of the proxy's counters, and creates it if it does not exist.
    pub fn increment_counter(
        &self,
        name: &str,
        help: &str,
        labels: HashMap<String, String>,
        delta: u64,
    ) {
        self.update(name, help, &labels, Read::Counter(delta), |known, new| {
            if let (Reading::Counter(count), Reading::Counter(delta)) = (known, new) {
                *count = count.saturating_add(delta);
            }
        });
    }

    /// Sets one of the proxy's gauges, and creates it if it does not exist.
    pub fn set_gauge(&self, name: &str, help: &str, labels: HashMap<String, String>, value: f64) {
        self.update(name, help, &labels, Read::Gauge(value), |known, new| {
            *known = new;
        });
    }

    /// Adds a value to one of the proxy's histograms, and creates it if it does not exist. The
    /// bucket boundaries are those of the first call.
    pub fn observe_histogram(
        &self,
        name: &str,
        help: &str,
        labels: HashMap<String, String>,
        bucket_boundaries: &[f64],
        value: f64,
    ) {
        let mut first = crate::protocol::HistogramMetric {
            name: String::new(),
            help: None,
            labels: HashMap::new(),
            sum: value,
            count: 1,
            buckets: Vec::new(),
        };
        let bucket = |le: &f64| crate::protocol::HistogramBucket {
            le: *le,
            count: u64::from(value <= *le),
        };
        first.buckets.extend(bucket_boundaries.iter().map(bucket));
        self.update(name, help, &labels, Read::Histogram(&first), |known, _| {
            if let Reading::Histogram(histogram) = known {
                observe(Arc::make_mut(histogram), value);
            }
        });
    }

    /// Records a report of an agent.
    pub fn record_agent_metrics(&self, report: &MetricsReport) {
        self.agents.record(report);
    }

    /// Returns how often one of the proxy's own series was dropped, by reason.
    pub fn dropped(&self) -> DroppedSeries {
        lock(&self.own).dropped
    }

    /// Returns all metrics in the Prometheus text format.
    pub fn export_prometheus(&self) -> String {
        let mut out = Exposition::default();
        out.begin(
            &self.info_metric,
            Some("The service and the instance that export this page."),
            Kind::Gauge,
        );
        let labels = write_labels([
            ("instance", &*self.instance_id),
            ("service", &*self.service_name),
        ]);
        out.series(&self.info_metric, &labels, &Reading::Gauge(1.0));
        let own = lock(&self.own).families.snapshot();
        for family in &own {
            family.write(&mut out);
        }
        if let Some(comment) = &self.agents_comment {
            out.comment(comment);
        }
        let shadowed = self.agents.write_besides(&mut out, |family| {
            !lock(&self.own).families.collides_with(family)
        });
        let name = "tollgate_reported_series_shadowed";
        let help = "Reported series not exported because the proxy has metrics of the same name.";
        out.begin(name, Some(help), Kind::Gauge);
        out.series(name, "", &Reading::Gauge(shadowed as f64));
        out.finish()
    }

    /// Returns the number of series of the proxy and its agents.
    pub fn series_count(&self) -> usize {
        lock(&self.own).families.len() + self.agents.series_count()
    }

    /// Applies `change` to a series if it exists, otherwise inserts it.
    fn update(
        &self,
        name: &str,
        help: &str,
        labels: &HashMap<String, String>,
        read: Read<'_>,
        change: impl FnOnce(&mut Reading, Reading),
    ) {
        let reserved = [&*self.info_metric, "tollgate_reported_"].map(str::to_owned);
        let rules = Rules {
            max_labels: MAX_LABELS,
            reserved_prefixes: &reserved,
            label: None,
        };
        let reported = Reported {
            name,
            help: Some(help),
            labels,
            read,
        };
        let sample = rules.check(reported);
        let (max_series, max_bytes) = (self.max_series, self.max_bytes);
        let mut own = lock(&self.own);
        let families = &mut own.families;
        let update = |sample| families.update(sample, change, max_series, max_bytes);
        if let Err(reason) = sample.and_then(update) {
            own.dropped.add(reason, 1);
        }
    }
}

impl Default for UnifiedMetricsAggregator {
    fn default() -> Self {
        Self::new("tollgate", "default")
    }
}

impl Families<()> {
    fn update(
        &mut self,
        sample: Sample<'_>,
        change: impl FnOnce(&mut Reading, Reading),
        max_series: usize,
        max_bytes: usize,
    ) -> Result<(), DropReason> {
        if let Some(series) = self.find(&sample)? {
            change(&mut series.reading, sample.reading);
            return Ok(());
        }
        if self.len() >= max_series {
            return Err(DropReason::TooManySeries);
        }
        if self.bytes() + sample.size() > max_bytes {
            return Err(DropReason::TooManyBytes);
        }
        self.put(sample, ());
        Ok(())
    }
}

fn observe(histogram: &mut Histogram, value: f64) {
    histogram.sum += value;
    histogram.count += 1;
    for (le, count) in &mut histogram.buckets {
        *count += u64::from(value <= *le);
    }
}
