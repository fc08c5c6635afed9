//! Metrics that agents report are limited, expire, and are exported as text that a strict parser
//! accepts, whatever was reported.

use crate::common::*;
use openmetrics_parser::prometheus::parse_prometheus;
use openmetrics_parser::{PrometheusType, PrometheusValue};
use proptest::prelude::*;
use serde_json::json;
use std::collections::{BTreeSet, HashMap};
use std::time::Duration;
use tollgate::{
    Encoding,
    control::standard,
    control::{CounterMetric, GaugeMetric, HistogramBucket, HistogramMetric, MetricsReport},
    metrics::{DropReason, MetricsCollector, MetricsCollectorConfig, UnifiedMetricsAggregator},
};

fn report() -> MetricsReport {
    MetricsReport::new("waf", 1000)
}

fn counters(names: &[&str]) -> MetricsReport {
    let counter = |name: &&str| CounterMetric::new(*name, 1);
    MetricsReport {
        counters: names.iter().map(counter).collect(),
        ..report()
    }
}

fn labelled(name: &str, labels: &[(&str, &str)]) -> MetricsReport {
    let mut report = counters(&[name]);
    let owned = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
    report.counters[0].labels = labels.iter().map(owned).collect();
    report
}

fn histogram(name: &str, sum: f64, count: u64, buckets: &[(f64, u64)]) -> HistogramMetric {
    HistogramMetric {
        name: name.to_owned(),
        help: None,
        labels: HashMap::new(),
        sum,
        count,
        buckets: buckets
            .iter()
            .map(|&(le, count)| HistogramBucket { le, count })
            .collect(),
    }
}

/// Returns the reported samples of an export, without comments and tollgate's own series.
fn lines_of(text: &str) -> Vec<&str> {
    let is_sample = |line: &&str| !line.starts_with('#') && !line.starts_with("tollgate_");
    text.lines().filter(is_sample).collect()
}

/// Checks an export with a strict parser, and for repeated lines.
fn check(text: &str) {
    if !text.is_empty() {
        let parsed = parse_prometheus(text);
        assert!(parsed.is_ok(), "{:?} in\n{text}", parsed.err());
    }
    let mut seen = BTreeSet::new();
    for line in text.lines() {
        // No type, help or sample may occur twice.
        let key = match line.strip_prefix("# ") {
            Some(rest) => rest.split(' ').take(2).collect::<Vec<_>>().join(" "),
            None => line.rsplit_once(' ').expect("a value").0.to_owned(),
        };
        assert!(seen.insert(key), "twice: {line} in\n{text}");
    }
}

fn dropped_from(report: &MetricsReport) -> (Vec<(DropReason, u64)>, usize) {
    let collector = MetricsCollector::new();
    collector.record(report);
    check(&collector.export_prometheus());
    (
        collector.dropped().iter().collect(),
        collector.series_count(),
    )
}

#[tokio::test]
async fn reports_are_exported_under_the_pools_agent_id() {
    for encoding in ALL {
        let agent = serve_for(encoding).await;
        let pool = pool_with(config(encoding), &agent.path).await;
        let mut report = MetricsReport::new("another name", 1000);
        let mut counter = CounterMetric::new(standard::REQUESTS_TOTAL, u64::MAX);
        counter.help = Some("Back\\slash and\nnewline".to_owned());
        counter
            .labels
            .insert("route".to_owned(), "a\"b\\c\nd,{}".to_owned());
        counter
            .labels
            .insert("agent_id".to_owned(), "forged".to_owned());
        report.counters.push(counter);
        report.gauges.push(GaugeMetric::new("load", 0.25));
        let buckets = [(0.1, 50), (0.5, 80), (f64::INFINITY, 0)];
        report
            .histograms
            .push(histogram("duration_seconds", 10.5, 100, &buckets));

        agent.control.report_metrics(report);
        let collector = pool.metrics_collector();
        eventually("the report is kept", async || collector.series_count() == 3).await;

        let text = collector.export_prometheus();
        check(&text);
        assert_eq!(
            lines_of(&text),
            [
                "agent_requests_total{agent_id=\"agent\",route=\"a\\\"b\\\\c\\nd,{}\"} 18446744073709551615",
                "duration_seconds_bucket{agent_id=\"agent\",le=\"0.1\"} 50",
                "duration_seconds_bucket{agent_id=\"agent\",le=\"0.5\"} 80",
                "duration_seconds_bucket{agent_id=\"agent\",le=\"+Inf\"} 100",
                "duration_seconds_sum{agent_id=\"agent\"} 10.5",
                "duration_seconds_count{agent_id=\"agent\"} 100",
                "load{agent_id=\"agent\"} 0.25",
            ]
        );
        assert!(text.contains("# HELP agent_requests_total Back\\\\slash and\\nnewline\n"));
        assert_eq!(collector.active_agents(), ["agent"]);

        let parsed = parse_prometheus(&text).unwrap();
        let family = &parsed.families["duration_seconds"];
        assert_eq!(family.family_type, PrometheusType::Histogram);
        let sample = family.iter_samples().next().unwrap();
        let PrometheusValue::Histogram(value) = &sample.value else {
            panic!("no histogram: {sample:?}");
        };
        assert_eq!(value.buckets.len(), 3);
        assert_eq!(value.count, Some(100));

        pool.remove("agent").unwrap();
        assert_eq!(collector.export_prometheus(), "");
    }
}

/// NaN is null on the wire, since neither encoding has it in free-form values.
#[tokio::test]
async fn invalid_series_do_not_affect_the_rest_of_a_report() {
    for encoding in BOTH {
        let (_agent, pool, mut connection) = raw_pool(config(encoding)).await;
        let message = json!({
            "agent_id": "raw", "timestamp_ms": 1, "interval_ms": 1000,
            "counters": [{"name": "fine", "value": 1}, {"name": "no name", "value": 1}],
            "gauges": [{"name": "nan", "value": null}, {"name": "fine", "value": 2.5}],
            "histograms": [
                {"name": "nan_total", "sum": null, "count": 0, "buckets": []},
                {"name": "nan_bound", "sum": 0, "count": 0, "buckets": [{"le": null, "count": 0}]},
                {"name": "fine_too", "sum": 1, "count": 2, "buckets": [{"le": "+Inf", "count": 2}]},
            ],
        });
        connection
            .send_value(message::METRICS_REPORT, &message)
            .await;
        connection.sync().await;

        let collector = pool.metrics_collector();
        assert_eq!(collector.series_count(), 2);
        let dropped: Vec<_> = collector.dropped().iter().collect();
        assert_eq!(
            dropped,
            [
                (DropReason::InvalidName, 1),
                (DropReason::InvalidValue, 2),
                (DropReason::InvalidBuckets, 1),
                (DropReason::TypeConflict, 1),
            ]
        );

        let text = collector.export_prometheus();
        check(&text);
        let series = "tollgate_reported_series_dropped_total{agent_id=\"agent\",reason=\"invalid_value\"} 2\n";
        assert!(text.contains(series), "{text}");

        assert_eq!(faults(&pool).await.undecodable_messages, 0);
    }
}

#[test]
fn series_that_prometheus_rejects_are_dropped() {
    use DropReason::*;
    let long = "x".repeat(201);
    for name in [
        "",
        "1st",
        "a-b",
        "a b",
        "a{b=\"c\"}",
        "\u{e4}",
        "a\n",
        &long,
    ] {
        let expected = (vec![(InvalidName, 1)], 0);
        assert_eq!(dropped_from(&counters(&[name])), expected, "{name:?}");
    }

    let long = "x".repeat(1025);
    for (label, value) in [
        ("", "v"),
        ("1", "v"),
        ("a:b", "v"),
        ("__name__", "v"),
        ("a=\"\",b", "v"),
        ("a", "carriage\rreturn"),
        ("a", &long),
    ] {
        let expected = (vec![(InvalidLabels, 1)], 0);
        let report = labelled("c", &[(label, value)]);
        assert_eq!(dropped_from(&report), expected, "{label:?}={value:?}");
    }

    for value in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY] {
        let mut report = report();
        report.gauges.push(GaugeMetric::new("g", value));
        assert_eq!(dropped_from(&report), (vec![(InvalidValue, 1)], 0));
    }

    let many: Vec<_> = (0..257).map(|bound| (f64::from(bound), 0)).collect();
    let broken: [(u64, &[(f64, u64)]); 6] = [
        (9, &[(1.0, 5), (2.0, 4)]),
        (3, &[(1.0, 4)]),
        (9, &[(1.0, 4), (1.0, 4)]),
        (9, &[(0.0, 4), (-0.0, 4)]),
        (9, &[(f64::NAN, 4)]),
        (9, &many),
    ];
    for (count, buckets) in broken {
        let mut report = report();
        report.histograms.push(histogram("h", 1.0, count, buckets));
        let expected = (vec![(InvalidBuckets, 1)], 0);
        assert_eq!(dropped_from(&report), expected, "{buckets:?}");
    }

    let own = dropped_from(&counters(&["tollgate_requests_total"]));
    assert_eq!(own, (vec![(ReservedName, 1)], 0));
}

#[test]
fn each_name_has_one_type() {
    let mut report = counters(&["x", "y_bucket", "z_sum"]);
    report.gauges.push(GaugeMetric::new("x", 1.0));
    for name in ["y", "z", "h"] {
        report.histograms.push(histogram(name, 1.0, 1, &[]));
    }
    let (dropped, series) = dropped_from(&report);
    assert_eq!(dropped, [(DropReason::TypeConflict, 3)]);
    assert_eq!(series, 4);

    let collector = MetricsCollector::new();
    collector.record(&report);
    collector.record(&MetricsReport {
        agent_id: "other".to_owned(),
        ..counters(&["h_count", "h"])
    });
    assert_eq!(collector.dropped().get(DropReason::TypeConflict), 5);
    check(&collector.export_prometheus());
}

#[test]
fn series_counts_once_per_report_and_is_updated_later() {
    let collector = MetricsCollector::new();
    let mut report = counters(&["x", "x"]);
    report.counters[1].value = 7;
    collector.record(&report);
    assert_eq!(collector.dropped().get(DropReason::Duplicate), 1);
    assert!(
        collector
            .export_prometheus()
            .contains("x{agent_id=\"waf\"} 1\n")
    );

    report.counters.remove(0);
    collector.record(&report);
    assert!(
        collector
            .export_prometheus()
            .contains("x{agent_id=\"waf\"} 7\n")
    );
    assert_eq!(collector.series_count(), 1);

    // An empty label does not make another series.
    collector.record(&labelled("x", &[("empty", "")]));
    assert_eq!(collector.series_count(), 1);
}

#[test]
fn series_without_the_label_belongs_to_its_first_agent() {
    let collector = MetricsCollector::with_config(
        MetricsCollectorConfig::default().include_agent_id_label(false),
    );
    collector.record(&counters(&["x"]));
    let other = MetricsReport {
        agent_id: "other".to_owned(),
        ..counters(&["x", "y"])
    };
    collector.record(&other);

    let text = collector.export_prometheus();
    check(&text);
    assert_eq!(lines_of(&text), ["x 1", "y 1"]);

    collector.forget_agent("waf");
    collector.record(&other);
    assert_eq!(collector.series_count(), 2);
}

#[test]
fn series_are_limited_per_agent_and_in_total() {
    let collector = MetricsCollector::with_config(
        MetricsCollectorConfig::default()
            .max_series(5)
            .max_series_per_agent(3)
            .max_labels(1),
    );
    let from = |agent_id: &str, report: MetricsReport| {
        collector.record_from(agent_id, &report);
        (collector.series_count(), collector.dropped_series())
    };

    assert_eq!(from("a", counters(&["a", "b", "c", "d", "e"])), (3, 2));
    // Labels that never repeat make new series as well.
    for round in 0..100 {
        let (series, dropped) = from("a", labelled("b", &[("id", &round.to_string())]));
        assert_eq!((series, dropped), (3, 3 + round));
    }

    assert_eq!(from("b", counters(&["a", "b", "c"])), (5, 103));
    // Known series are still updated.
    assert_eq!(from("a", counters(&["a", "b", "c"])), (5, 103));
    assert_eq!(
        from("b", labelled("a", &[("x", "1"), ("y", "2")])),
        (5, 104)
    );

    for agent in 0..10 {
        from(&agent.to_string(), counters(&["a"]));
    }

    // The number of remembered agents is limited by the number of series.
    assert_eq!(collector.active_agents().len(), 5);
    assert_eq!(collector.dropped_series(), 114);
    check(&collector.export_prometheus());
}

#[tokio::test]
async fn series_expire_when_no_longer_reported() {
    let collector = MetricsCollector::with_config(
        MetricsCollectorConfig::default()
            .max_age(Duration::from_millis(50))
            .max_series(2),
    );
    collector.record(&counters(&["a", "b"]));
    eventually("the export is empty", async || {
        collector.export_prometheus().is_empty()
    })
    .await;
    assert_eq!(collector.series_count(), 0);

    // Expired series make room, even without an export in between.
    collector.record(&counters(&["c", "d"]));
    tokio::time::sleep(Duration::from_millis(60)).await;
    collector.record(&counters(&["e", "f"]));
    assert_eq!(collector.dropped_series(), 0);
    assert_eq!(collector.snapshot().counter_count(), 2);
}

#[tokio::test]
async fn pool_expires_series_by_itself() {
    let agent = serve().await;
    let settings = config(Encoding::MessagePack)
        .health_check_interval(Duration::from_millis(10))
        .reported_metrics(MetricsCollectorConfig::default().max_age(Duration::from_millis(30)));
    let pool = pool_with(settings, &agent.path).await;
    agent.control.report_metrics(counters(&["a"]));
    // An export would expire series as well, so the count is used.
    let series = async || pool.metrics_collector().series_count();

    eventually("the series is reported", async || series().await == 1).await;
    eventually("the series has expired", async || series().await == 0).await;
}

#[test]
fn own_metrics_are_exported_beside_reported_ones() {
    let metrics = UnifiedMetricsAggregator::new("gate\"way", "node-1");
    let route = |route: &str| HashMap::from([("route".to_owned(), route.to_owned())]);
    for (name, delta) in [("a", 2), ("b", 3), ("a", 5)] {
        metrics.increment_counter("requests_total", "Requests.", route(name), delta);
    }

    metrics.set_gauge("open", "Open.", HashMap::new(), 1.0);
    metrics.set_gauge("open", "Open.", HashMap::new(), -2.5);
    for value in [0.05, 0.2, 7.0] {
        metrics.observe_histogram("took", "Took.", HashMap::new(), &[0.1, 1.0], value);
    }

    metrics.record_agent_metrics(&counters(&["blocked", "requests_total", "took_sum"]));
    // None of these may be exported.
    metrics.set_gauge("open", "Open.", HashMap::new(), f64::NAN);
    metrics.increment_counter("open", "Not a counter.", HashMap::new(), 1);
    metrics.increment_counter("no name", "", HashMap::new(), 1);
    metrics.set_gauge("tollgate_info", "", HashMap::new(), 1.0);
    metrics.observe_histogram("took", "Took.", HashMap::new(), &[0.1], f64::NAN);
    metrics.observe_histogram("twice", "", HashMap::new(), &[1.0, 1.0], 2.0);

    let text = metrics.export_prometheus();
    check(&text);
    assert_eq!(
        lines_of(&text),
        [
            "open -2.5",
            "requests_total{route=\"a\"} 7",
            "requests_total{route=\"b\"} 3",
            "took_bucket{le=\"0.1\"} 1",
            "took_bucket{le=\"1\"} 2",
            "took_bucket{le=\"+Inf\"} 3",
            "took_sum 7.25",
            "took_count 3",
            "blocked{agent_id=\"waf\"} 1",
        ]
    );
    let info = "tollgate_info{instance=\"node-1\",service=\"gate\\\"way\"} 1\n";
    assert!(text.contains(info), "{text}");
    assert!(text.contains("tollgate_reported_series_shadowed 2\n"));
    assert_eq!(metrics.series_count(), 4 + 3);
    assert_eq!(metrics.dropped().total(), 6);
}

fn names() -> impl Strategy<Value = String> {
    // Few names, so that they collide.
    prop_oneof![
        5 => "[ab](_sum|_count|_bucket|_total)?",
        1 => "tollgate_reported_series",
        1 => ".{0,3}",
    ]
}

/// The parser needs the same label names in each family. Invalid names are dropped.
fn labels() -> impl Strategy<Value = HashMap<String, String>> {
    let names =
        prop_oneof![4 => Just(vec!["a"]), 1 => Just(vec!["a", "-"]), 1 => Just(vec!["__a"])];
    let value = prop_oneof![".{1,3}", "[\"\\\\,{}=#]{1,4}"];
    (names, value).prop_map(|(names, value)| {
        let label = |name: &str| (name.to_owned(), value.clone());
        names.into_iter().map(label).collect()
    })
}

fn numbers() -> impl Strategy<Value = f64> {
    prop_oneof![any::<f64>(), (-3..3i32).prop_map(f64::from)]
}

fn reports() -> impl Strategy<Value = MetricsReport> {
    let help = || prop::option::of(".{0,4}");
    let counter =
        (names(), help(), labels(), any::<u64>()).prop_map(|(name, help, labels, value)| {
            CounterMetric {
                name,
                help,
                labels,
                value,
            }
        });
    let gauge = (names(), help(), labels(), numbers()).prop_map(|(name, help, labels, value)| {
        GaugeMetric {
            name,
            help,
            labels,
            value,
        }
    });
    // The parser rejects negative bounds and sums, which Prometheus accepts.
    let bucket = (numbers(), 0..4u64).prop_map(|(le, count)| HistogramBucket {
        le: le.abs(),
        count,
    });
    let buckets = prop::collection::vec(bucket, 0..4);
    let histogram = (names(), help(), labels(), numbers(), 0..6u64, buckets).prop_map(
        |(name, help, labels, sum, count, buckets)| HistogramMetric {
            name,
            help,
            labels,
            sum: sum.abs(),
            count,
            buckets,
        },
    );
    let several = 0..4;
    (
        "[xy\"]",
        prop::collection::vec(counter, several.clone()),
        prop::collection::vec(gauge, several.clone()),
        prop::collection::vec(histogram, several),
    )
        .prop_map(|(agent_id, counters, gauges, histograms)| MetricsReport {
            counters,
            gauges,
            histograms,
            ..MetricsReport::new(agent_id, 1)
        })
}

proptest! {
    #[test]
    fn any_report_leaves_the_export_valid(
        reports in prop::collection::vec(reports(), 1..6),
        include_agent_id_label: bool,
    ) {
        let metrics = UnifiedMetricsAggregator::with_agent_config(
            "s", "i", MetricsCollectorConfig::default()
.include_agent_id_label(include_agent_id_label),
        );
        metrics.increment_counter("a", "", HashMap::new(), 1);
        let mut reported = 0;
        for report in &reports {
            metrics.record_agent_metrics(report);
            reported += report.counters.len() + report.gauges.len() + report.histograms.len();
        }

        let collector = metrics.agent_collector();
        let (kept, dropped) = (collector.series_count() as u64, collector.dropped_series());
        prop_assert!(kept <= reported as u64 - dropped);
        check(&collector.export_prometheus());
        check(&metrics.export_prometheus());
    }
}
