//! Counters of the pool, as numbers and as text for Prometheus.

use crate::common::{config, pool_with, request, serve};
use openmetrics_parser::PrometheusValue;
use openmetrics_parser::prometheus::parse_prometheus;
use std::collections::{BTreeMap, BTreeSet};
use tollgate::{AgentConfig, AgentPool, Encoding};

const HOSTILE_NAME: &str = "a\"quoted\\\"name\\nof,{two}=lines";

/// Checks the rules of `promtool check metrics`, and the ones that it assumes.
fn check_strictly(text: &str) {
    assert!(text.ends_with('\n'));
    let mut families = BTreeSet::new();
    let mut series = BTreeSet::new();
    let (mut family, mut kind) = (String::new(), String::new());
    let mut helped = String::new();
    // Bound and count of the last bucket of the current histogram.
    let mut last: Option<(f64, f64)> = None;
    for line in text.lines() {
        if let Some(rest) = line.strip_prefix("# HELP ") {
            let (name, help) = rest.split_once(' ').expect("a help text");
            assert!(!help.is_empty() && help.ends_with('.'), "{line}");
            helped = name.to_owned();
            continue;
        }
        if let Some(rest) = line.strip_prefix("# TYPE ") {
            let (name, of) = rest.split_once(' ').unwrap();
            assert_eq!(name, helped, "TYPE does not follow its HELP");
            assert!(families.insert(name.to_owned()), "{name} comes twice");
            (family, kind) = (name.to_owned(), of.to_owned());
            assert_eq!(of == "counter", name.ends_with("_total"), "{line}");
            continue;
        }
        let (id, value) = line.rsplit_once(' ').unwrap();
        let value: f64 = value.parse().unwrap();
        assert!(series.insert(id.to_owned()), "{id} comes twice");
        assert!(value.is_finite() && value >= 0.0, "{line}");
        let name = id.split('{').next().unwrap();
        let Some(part) = name.strip_prefix(&family) else {
            panic!("{line} is outside of its family, {family}");
        };
        if kind != "histogram" {
            assert_eq!(part, "", "{line}");
            continue;
        }
        match part {
            "_bucket" => {
                let (_, le) = id.split_once("le=\"").unwrap();
                let le = le.trim_end_matches("\"}");
                let le: f64 = le.replace("+Inf", "inf").parse().unwrap();
                let (bound, count) = last.unwrap_or((f64::NEG_INFINITY, 0.0));
                assert!(le > bound && value >= count, "{line}");
                last = Some((le, value));
            }
            "_sum" => {}
            "_count" => assert_eq!(last.take(), Some((f64::INFINITY, value)), "{line}"),
            other => panic!("{other} is not part of a histogram"),
        }
    }
    assert!(!series.is_empty());
}

/// Returns the value of each series by its name and labels.
fn parsed(text: &str) -> BTreeMap<String, f64> {
    check_strictly(text);
    let exposition = parse_prometheus(text).unwrap();
    let mut values = BTreeMap::new();
    for (name, family) in &exposition.families {
        for sample in family.iter_samples() {
            let labels = sample.get_labelset().unwrap();
            let labels: Vec<_> = labels.iter().map(|(k, v)| format!("{k}={v}")).collect();
            let value = match &sample.value {
                PrometheusValue::Counter(count) => count.value.as_f64(),
                PrometheusValue::Gauge(value) => value.as_f64(),
                PrometheusValue::Histogram(histogram) => histogram.count.unwrap() as f64,
                other => panic!("{other:?}"),
            };
            values.insert(format!("{name}{{{}}}", labels.join(",")), value);
        }
    }
    values
}

async fn call_agent(pool: &AgentPool, agent: &str, id: &str, uri: &str) {
    let answer = pool.agent(agent).unwrap().send(id, &request(id, uri)).await;
    answer.unwrap();
    pool.unpin(id);
}

#[tokio::test]
async fn prometheus_text_is_valid_for_any_agent_name() {
    let agent = serve().await;
    let pool = pool_with(config(Encoding::MessagePack), &agent.path).await;
    let endpoint = agent.path.display().to_string();
    pool.add(AgentConfig::new(HOSTILE_NAME, endpoint))
        .await
        .unwrap();

    for (n, uri) in ["/", "/block", "/redirect", "/challenge", "/headers"]
        .into_iter()
        .enumerate()
    {
        call_agent(&pool, "agent", &format!("r-{n}"), uri).await;
    }
    call_agent(&pool, HOSTILE_NAME, "r-9", "/").await;

    let values = parsed(&pool.metrics().to_prometheus("tollgate"));
    let value = |series: &str| values.get(series).copied();
    assert_eq!(value("tollgate_requests_total{}"), Some(6.0));
    assert_eq!(
        value("tollgate_agent_requests_total{agent_id=agent}"),
        Some(5.0)
    );
    for (decision, count) in [
        ("allow", 2),
        ("block", 1),
        ("redirect", 1),
        ("challenge", 1),
    ] {
        let series =
            format!("tollgate_agent_decisions_total{{agent_id=agent,decision={decision}}}");
        assert_eq!(value(&series), Some(f64::from(count)), "{decision}");
    }

    let hostile = values
        .keys()
        .filter(|series| series.contains("quoted"))
        .count();
    let ours = values
        .keys()
        .filter(|series| series.contains("agent_id=agent"))
        .count();
    assert_eq!(hostile, ours);

    assert_eq!(value("tollgate_request_duration_seconds{}"), Some(6.0));
    assert_eq!(value("tollgate_healthy_connections{}"), Some(2.0));
    assert_eq!(value("tollgate_in_flight_requests{}"), Some(0.0));
}

#[tokio::test]
async fn prometheus_text_is_valid_without_agents() {
    let text = AgentPool::new().metrics().to_prometheus("1 a-b");
    let values = parsed(&text);
    assert_eq!(values.get("_1_a_b_requests_total{}"), Some(&0.0));
}

#[tokio::test]
async fn totals_do_not_fall_when_an_agent_is_removed() {
    let agent = serve().await;
    let pool = pool_with(config(Encoding::MessagePack), &agent.path).await;
    let metrics = pool.metrics();
    for round in 1..=3 {
        call_agent(&pool, "agent", "r-1", "/block").await;
        pool.remove("agent").unwrap();

        let snapshot = metrics.snapshot();
        assert_eq!(snapshot.requests_total, round);
        assert_eq!(snapshot.total.decisions.block, round);
        assert_eq!(snapshot.request_duration.count, round);
        assert!(snapshot.agents.is_empty());

        let endpoint = agent.path.display().to_string();
        pool.add(AgentConfig::new("agent", endpoint)).await.unwrap();
        assert_eq!(metrics.snapshot().agents["agent"].calls.made, 0);
    }
    drop(pool);
    assert_eq!(metrics.snapshot().requests_total, 3);
}

/// Returns the names in the first column of the table in docs/operations.md.
fn documented() -> BTreeSet<String> {
    let docs = include_str!("../../docs/operations.md");
    let section = docs.split("## What the pool counts").nth(1).unwrap();
    let section = section.split("\n##").next().unwrap();
    let rows = section.lines().filter(|line| line.starts_with("| `"));
    let names = rows.flat_map(|row| {
        let first = row.split('|').nth(1).unwrap();
        let names = first.split('`').skip(1).step_by(2);
        names.map(|name| name.split('{').next().unwrap().to_owned())
    });
    names.collect()
}

#[tokio::test]
async fn every_series_is_documented() {
    let agent = serve().await;
    let pool = pool_with(config(Encoding::MessagePack), &agent.path).await;
    let text = pool.metrics().to_prometheus("tollgate");
    let families = text.lines().filter_map(|line| line.strip_prefix("# TYPE "));
    let exported = families.map(|family| {
        let name = family.split(' ').next().unwrap();
        let name = name.strip_prefix("tollgate_").unwrap();
        name.strip_prefix("agent_").unwrap_or(name).to_owned()
    });
    assert_eq!(exported.collect::<BTreeSet<_>>(), documented());
}
