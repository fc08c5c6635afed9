//! The page of reported metrics is bounded by its bytes, for each agent and in all.

use crate::common::MemoryGrowth;
use std::collections::HashMap;
use tollgate::control::{CounterMetric, HistogramBucket, HistogramMetric, MetricsReport};
use tollgate::metrics::{
    DropReason, MetricsCollector, MetricsCollectorConfig, UnifiedMetricsAggregator,
};

const MIB: usize = 1 << 20;

/// Returns a histogram as large as the limits of one series allow.
fn large_histogram(number: usize) -> HistogramMetric {
    let text = "\"\\".repeat(512);
    let labels = (0..31).map(|label| (format!("l{label}"), text.clone()));
    let buckets = (0..256).map(|bound| HistogramBucket {
        le: f64::from(bound),
        count: 1,
    });
    HistogramMetric {
        name: format!("h{number}"),
        help: Some(text.clone()),
        labels: labels.collect(),
        sum: 1.0,
        count: 1,
        buckets: buckets.collect(),
    }
}

fn large_report() -> MetricsReport {
    let mut report = MetricsReport::new("ignored", 1000);
    report.histograms = (0..20).map(large_histogram).collect();
    report
}

fn small_report() -> MetricsReport {
    let mut report = MetricsReport::new("ignored", 1000);
    report.counters.push(CounterMetric::new("small_total", 7));
    report
}

/// Returns a histogram of about 40 KiB on the page.
fn medium_histogram(number: usize) -> HistogramMetric {
    HistogramMetric {
        labels: HashMap::from([("text".to_owned(), "x".repeat(100))]),
        ..large_histogram(number)
    }
}

#[test]
fn a_report_within_the_limits_of_its_series_does_not_exceed_the_page() {
    let collector = MetricsCollector::new();
    collector.record_from("hostile", &large_report());
    collector.record_from("small", &small_report());

    let page = collector.export_prometheus();
    assert!(page.len() < 3 * MIB, "{} bytes", page.len());
    assert!(page.contains("small_total{agent_id=\"small\"} 7"));
    assert_eq!(collector.dropped().get(DropReason::TooManyBytes), 20);
    let counted = "tollgate_reported_series_dropped_total{agent_id=\"hostile\",\
                   reason=\"too_many_bytes\"} 20\n";
    assert!(page.contains(counted));
}

/// Returns a report of so many histograms, each of which fits into the limit of an agent.
fn medium_report(histograms: usize) -> MetricsReport {
    let mut report = MetricsReport::new("ignored", 1000);
    report.histograms = (0..histograms).map(medium_histogram).collect();
    report
}

#[test]
fn many_series_of_an_agent_do_not_exceed_its_part_of_the_page() {
    let collector = MetricsCollector::new();
    let report = medium_report(600);
    let memory = MemoryGrowth::watch();
    collector.record_from("hostile", &report);
    collector.record_from("small", &small_report());

    let page = collector.export_prometheus();
    memory.expect_within(16 * MIB);
    assert!(
        page.len() > MIB && page.len() < 3 * MIB,
        "{} bytes",
        page.len()
    );
    assert!(page.contains("small_total{agent_id=\"small\"} 7"));
    assert!(collector.dropped().get(DropReason::TooManyBytes) > 500);
}

#[test]
fn agents_together_do_not_exceed_the_page() {
    const AGENTS: usize = 80;
    let collector = MetricsCollector::new();
    let report = medium_report(60);
    let memory = MemoryGrowth::watch();
    for agent in 0..AGENTS {
        collector.record_from(&format!("agent-{agent}"), &report);
    }
    let page = collector.export_prometheus();
    memory.expect_within(100 * MIB);
    assert!(
        page.len() > 8 * MIB && page.len() < 20 * MIB,
        "{} bytes",
        page.len()
    );

    // Agents that are forgotten make room.
    for agent in 0..AGENTS {
        collector.forget_agent(&format!("agent-{agent}"));
    }
    collector.record_from("small", &small_report());
    assert!(collector.export_prometheus().contains("small_total"));
    assert_eq!(collector.series_count(), 1);
}

#[test]
fn a_known_series_grows_within_the_limit() {
    let collector =
        MetricsCollector::with_config(MetricsCollectorConfig::default().max_bytes_per_agent(1000));
    let of_size = |buckets: u32| {
        let bounds = (0..buckets).map(f64::from);
        let buckets = bounds.map(|le| HistogramBucket { le, count: 1 });
        let mut report = MetricsReport::new("a", 1000);
        report.histograms.push(HistogramMetric {
            labels: HashMap::new(),
            help: None,
            buckets: buckets.collect(),
            ..large_histogram(0)
        });
        report
    };
    // Each round would exceed the limit if sizes were added up.
    for _ in 0..50 {
        collector.record(&of_size(1));
        collector.record(&of_size(2));
    }
    assert_eq!(collector.dropped_series(), 0);
    collector.record(&of_size(100));
    assert_eq!(collector.dropped().get(DropReason::TooManyBytes), 1);
    assert!(collector.export_prometheus().contains("h0_bucket"));
}

#[test]
fn the_proxys_own_series_do_not_exceed_the_page() {
    let metrics = UnifiedMetricsAggregator::new("service", "instance");
    let value = "x".repeat(1024);
    for number in 0..4 {
        let labels = (0..31).map(|label| (format!("l{label}_{number}"), value.clone()));
        let bounds: Vec<_> = (0..256).map(f64::from).collect();
        metrics.observe_histogram("own_seconds", "Help.", labels.collect(), &bounds, 1.0);
    }
    assert_eq!(metrics.dropped().get(DropReason::TooManyBytes), 2);
    assert!(metrics.export_prometheus().len() < 20 * MIB);
}
