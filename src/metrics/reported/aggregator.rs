use super::collector::{MetricsCollector, MetricsCollectorConfig};
use super::dropped::{DropReason, DroppedSeries};
use super::families::Families;
use super::sample::{Histogram, Kind, Read, Reading, Reported, Rules, Sample};
use super::text::{Exposition, write_labels};
use crate::protocol::MetricsReport;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Series of the proxy's own that are kept at once.
const MAX_SERIES: usize = 10_000;

/// Labels that a series of the proxy's own may have.
const MAX_LABELS: usize = 32;

/// The proxy's own metrics and those that its agents report, on one page.
///
/// The proxy's own series are bounded and checked as reported ones are: what Prometheus would not take is left out
/// and counted ([`UnifiedMetricsAggregator::dropped`]). Where an agent reports a metric of a name that the proxy
/// uses, the proxy's is exported.
///
/// ```
/// use tollgate::{AgentPool, UnifiedMetricsAggregator};
///
/// let pool = AgentPool::new();
/// let metrics =
///     UnifiedMetricsAggregator::with_collector("gateway", "node-1", pool.metrics_collector_arc());
/// metrics.increment_counter("http_requests_total", "Requests.", Default::default(), 1);
/// assert!(metrics.export_prometheus().contains("\nhttp_requests_total 1\n"));
/// ```
#[derive(Debug)]
pub struct UnifiedMetricsAggregator {
    service_name: String,
    instance_id: String,
    own: Mutex<Own>,
    agents: Arc<MetricsCollector>,
}

#[derive(Debug, Default)]
struct Own {
    families: Families<()>,
    dropped: DroppedSeries,
}

impl UnifiedMetricsAggregator {
    /// Nothing yet; agents' reports are given to [`UnifiedMetricsAggregator::record_agent_metrics`].
    pub fn new(service_name: impl Into<String>, instance_id: impl Into<String>) -> Self {
        Self::with_agent_config(service_name, instance_id, MetricsCollectorConfig::default())
    }

    /// The same with other limits for what agents report.
    pub fn with_agent_config(
        service_name: impl Into<String>,
        instance_id: impl Into<String>,
        agent_config: MetricsCollectorConfig,
    ) -> Self {
        let agents = MetricsCollector::with_config(agent_config);
        Self::with_collector(service_name, instance_id, Arc::new(agents))
    }

    /// Exports what a collector has, such as a pool's, beside the proxy's own metrics.
    pub fn with_collector(
        service_name: impl Into<String>,
        instance_id: impl Into<String>,
        agents: Arc<MetricsCollector>,
    ) -> Self {
        Self {
            service_name: service_name.into(),
            instance_id: instance_id.into(),
            own: Mutex::default(),
            agents,
        }
    }

    /// What agents report.
    pub fn agent_collector(&self) -> &MetricsCollector {
        &self.agents
    }

    /// Adds to a counter of the proxy.
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

    /// Sets a gauge of the proxy.
    pub fn set_gauge(&self, name: &str, help: &str, labels: HashMap<String, String>, value: f64) {
        self.update(name, help, &labels, Read::Gauge(value), |known, new| {
            *known = new;
        });
    }

    /// Counts a value in a histogram of the proxy. The boundaries are those of the first call.
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

    /// Takes an agent's report.
    pub fn record_agent_metrics(&self, report: &MetricsReport) {
        self.agents.record(report);
    }

    /// How often a series of the proxy's own was left out.
    pub fn dropped(&self) -> DroppedSeries {
        self.own().dropped
    }

    /// Everything in the text format of Prometheus.
    pub fn export_prometheus(&self) -> String {
        let mut out = Exposition::default();
        out.begin("tollgate_info", Some("Who exports this."), Kind::Gauge);
        let labels = write_labels([
            ("instance", &*self.instance_id),
            ("service", &*self.service_name),
        ]);
        out.series("tollgate_info", &labels, &Reading::Gauge(1.0));
        let own = self.own().families.snapshot();
        for family in &own {
            family.write(&mut out);
        }
        let shadowed = self.agents.write_besides(&mut out, |family| {
            !self.own().families.collides_with(family)
        });
        let name = "tollgate_reported_series_shadowed";
        let help =
            "Reported series that are left out because the proxy has metrics of the same name.";
        out.begin(name, Some(help), Kind::Gauge);
        out.series(name, "", &Reading::Gauge(shadowed as f64));
        out.finish()
    }

    /// Series of the proxy and of its agents.
    pub fn series_count(&self) -> usize {
        self.own().families.len() + self.agents.series_count()
    }

    /// Changes a series, or adds it as it is given.
    fn update(
        &self,
        name: &str,
        help: &str,
        labels: &HashMap<String, String>,
        read: Read<'_>,
        change: impl FnOnce(&mut Reading, Reading),
    ) {
        let reserved = ["tollgate_info", "tollgate_reported_"].map(str::to_owned);
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
        let mut own = self.own();
        if let Err(reason) = sample.and_then(|sample| own.families.update(sample, change)) {
            own.dropped.add(reason, 1);
        }
    }

    /// A panic while the lock is held could at worst have lost a series.
    fn own(&self) -> MutexGuard<'_, Own> {
        self.own.lock().unwrap_or_else(PoisonError::into_inner)
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
    ) -> Result<(), DropReason> {
        if let Some(series) = self.find(&sample)? {
            change(&mut series.reading, sample.reading);
            return Ok(());
        }
        if self.len() >= MAX_SERIES {
            return Err(DropReason::TooManySeries);
        }
        self.insert(sample, ());
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
