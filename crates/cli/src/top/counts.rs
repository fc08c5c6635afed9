//! Per-agent counts read from a page of metrics, and the rates between two pages.

use crate::output::printable;
use anyhow::Context;
use prometheus_parse::{Sample, Scrape, Value};
use std::collections::BTreeMap;
use std::time::Duration;

/// Connections that stayed on their socket because shared memory failed.
const REFUSED: &str = "shared_memory_failures_total";

/// Counters of connections through shared memory.
pub(super) const RINGS: [&str; 4] = [
    "shared_memory_doorbells_total",
    "shared_memory_sleeps_total",
    "shared_memory_vain_spins_total",
    REFUSED,
];

/// Cumulative counts of each agent at one time.
#[derive(Debug, Default, PartialEq)]
pub(super) struct CountsByAgent(pub(super) BTreeMap<String, Counts>);

/// Cumulative counts of one agent.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Counts {
    pub(super) connections: Option<Connections>,
    in_flight: f64,
    decisions: BTreeMap<String, f64>,
    failures: f64,
    /// Counters of shared memory, in the order of [`RINGS`].
    rings: [f64; RINGS.len()],
    /// Histogram of call durations: upper bounds in seconds, and cumulative numbers of calls.
    durations: Vec<(f64, f64)>,
}

#[derive(Debug, Default, Clone, Copy, PartialEq)]
pub(super) struct Connections {
    pub(super) active: f64,
    pub(super) healthy: f64,
    pub(super) paused: f64,
    /// Circuit breakers that are not closed.
    pub(super) open_breakers: f64,
}

/// One agent's row of the table.
#[derive(Debug, PartialEq)]
pub(super) struct Row {
    pub(super) agent: String,
    pub(super) state: State,
    pub(super) connections: Option<Connections>,
    pub(super) in_flight: f64,
    /// Events per second, by decision.
    pub(super) decisions: BTreeMap<String, f64>,
    /// Failed calls per second.
    pub(super) failures: f64,
    /// Doorbells, sleeps and vain spins per second of connections through shared memory, and the
    /// number of those that were refused.
    pub(super) rings: [f64; RINGS.len()],
    /// Median call duration in seconds, `None` without calls.
    pub(super) median: Option<f64>,
    /// 99th percentile of call durations in seconds, `None` without calls.
    pub(super) p99: Option<f64>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum State {
    Up,
    /// Some connections are not healthy.
    Degraded,
    Paused,
    CircuitOpen,
    Down,
    /// The metrics have no information about connections.
    Unknown,
}

impl CountsByAgent {
    /// Parses metrics as tollgate exports them, with any prefix, or as agents report them.
    pub(super) fn read(text: &str) -> anyhow::Result<Self> {
        let lines = text.lines().map(|line| Ok(line.to_owned()));
        let scrape = Scrape::parse(lines).context("not the text format of Prometheus")?;
        let mut counts = Self::default();
        for sample in scrape.samples {
            counts.take(sample);
        }
        Ok(counts)
    }

    /// Returns the rows to show. Rates compare with `earlier`, which was read `elapsed` ago.
    pub(super) fn rows(&self, earlier: &Self, elapsed: Duration) -> Vec<Row> {
        let nothing = Counts::default();
        let rows = self.0.iter().map(|(agent, counts)| {
            let earlier = earlier.0.get(agent).unwrap_or(&nothing);
            counts.row(agent, earlier, elapsed.as_secs_f64())
        });
        rows.collect()
    }

    fn take(&mut self, sample: Sample) {
        let Some((_, family)) = sample.metric.rsplit_once("agent_") else {
            return;
        };
        let Some(agent) = sample.labels.get("agent_id") else {
            return;
        };
        let counts = self.0.entry(printable(agent).into_owned()).or_default();
        match (family, sample.value) {
            ("request_duration_seconds", Value::Histogram(buckets)) => {
                let buckets = buckets
                    .iter()
                    .map(|bucket| (bucket.less_than, bucket.count));
                counts.durations = buckets.collect();
            }
            (family, Value::Counter(value) | Value::Gauge(value) | Value::Untyped(value)) => {
                counts.take(family, &sample.labels, value);
            }
            _ => {}
        }
    }
}

impl Counts {
    fn take(&mut self, family: &str, labels: &prometheus_parse::Labels, value: f64) {
        match family {
            "decisions_total" => {
                let decision = labels.get("decision").unwrap_or("other");
                *self.decisions.entry(decision.to_owned()).or_default() += value;
            }
            "failures_total" => self.failures += value,
            "in_flight_requests" => self.in_flight = value,
            "active_connections" => self.connections().active = value,
            "healthy_connections" => self.connections().healthy = value,
            "paused_connections" => self.connections().paused = value,
            "open_circuit_breakers" => self.connections().open_breakers = value,
            family => {
                if let Some(ring) = RINGS.iter().position(|known| *known == family) {
                    self.rings[ring] = value;
                }
            }
        }
    }

    fn connections(&mut self) -> &mut Connections {
        self.connections.get_or_insert_default()
    }

    fn row(&self, agent: &str, earlier: &Self, seconds: f64) -> Row {
        // A smaller count means that the counter was reset.
        let rate = |now: f64, then: f64| if now < then { now } else { now - then } / seconds;
        let decisions = self.decisions.iter().map(|(decision, count)| {
            let then = earlier.decisions.get(decision).copied().unwrap_or(0.0);
            (decision.clone(), rate(*count, then))
        });
        let durations = self.durations_since(earlier);
        Row {
            agent: agent.to_owned(),
            state: self.connections.map_or(State::Unknown, State::of),
            connections: self.connections,
            in_flight: self.in_flight,
            decisions: decisions.collect(),
            failures: rate(self.failures, earlier.failures),
            rings: std::array::from_fn(|ring| match RINGS[ring] {
                REFUSED => self.rings[ring],
                _ => rate(self.rings[ring], earlier.rings[ring]),
            }),
            median: quantile(&durations, 0.5),
            p99: quantile(&durations, 0.99),
        }
    }

    /// Returns the histogram of the calls since `earlier`, or of all calls if there were none
    /// since.
    fn durations_since(&self, earlier: &Self) -> Vec<(f64, f64)> {
        let is_same = self.durations.len() == earlier.durations.len();
        let grown = |(now, then): (&(f64, f64), &(f64, f64))| (now.0, now.1 - then.1);
        let since: Vec<_> = self
            .durations
            .iter()
            .zip(&earlier.durations)
            .map(grown)
            .collect();
        let has_grown = since.last().is_some_and(|(_, count)| *count > 0.0);
        if is_same && has_grown {
            since
        } else {
            self.durations.clone()
        }
    }
}

impl Row {
    /// Returns whether any counter of shared memory has moved.
    pub(super) fn uses_shared_memory(&self) -> bool {
        self.rings.iter().any(|value| *value > 0.0)
    }
}

impl State {
    fn of(connections: Connections) -> Self {
        let Connections {
            active,
            healthy,
            paused,
            open_breakers,
        } = connections;
        if open_breakers > 0.0 {
            return Self::CircuitOpen;
        }
        if active == 0.0 {
            return Self::Down;
        }
        if paused >= active {
            return Self::Paused;
        }
        if healthy == 0.0 {
            return Self::Down;
        }
        if healthy < active {
            Self::Degraded
        } else {
            Self::Up
        }
    }

    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Up => "up",
            Self::Degraded => "degraded",
            Self::Paused => "paused",
            Self::CircuitOpen => "circuit open",
            Self::Down => "down",
            Self::Unknown => "–",
        }
    }
}

/// Returns a quantile like Prometheus's `histogram_quantile`: interpolates linearly within a
/// bucket, and returns the largest finite bound if the quantile lies in the last bucket.
fn quantile(buckets: &[(f64, f64)], share: f64) -> Option<f64> {
    let (_, all) = *buckets.last()?;
    if all <= 0.0 {
        return None;
    }
    let rank = share * all;
    let at = buckets.iter().position(|(_, count)| *count >= rank)?;
    let (from, below) = if at == 0 { (0.0, 0.0) } else { buckets[at - 1] };
    let (to, count) = buckets[at];
    if to.is_infinite() {
        return Some(from);
    }
    Some(from + (to - from) * (rank - below) / (count - below).max(f64::MIN_POSITIVE))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn page(scale: u64) -> String {
        let count = |count: u64| count * scale;
        format!(
            "# TYPE x_agent_decisions_total counter\n\
             x_agent_decisions_total{{agent_id=\"waf\",decision=\"allow\"}} {}\n\
             x_agent_decisions_total{{agent_id=\"waf\",decision=\"block\"}} {}\n\
             # TYPE x_agent_failures_total counter\n\
             x_agent_failures_total{{agent_id=\"waf\",reason=\"timed_out\"}} {}\n\
             x_agent_failures_total{{agent_id=\"waf\",reason=\"paused\"}} {}\n\
             # TYPE x_agent_active_connections gauge\n\
             x_agent_active_connections{{agent_id=\"waf\"}} 4\n\
             # TYPE x_agent_healthy_connections gauge\n\
             x_agent_healthy_connections{{agent_id=\"waf\"}} 3\n\
             # TYPE x_agent_request_duration_seconds histogram\n\
             x_agent_request_duration_seconds_bucket{{agent_id=\"waf\",le=\"0.001\"}} {}\n\
             x_agent_request_duration_seconds_bucket{{agent_id=\"waf\",le=\"0.002\"}} {}\n\
             x_agent_request_duration_seconds_bucket{{agent_id=\"waf\",le=\"+Inf\"}} {}\n\
             x_agent_request_duration_seconds_sum{{agent_id=\"waf\"}} 1\n\
             x_agent_request_duration_seconds_count{{agent_id=\"waf\"}} {}\n",
            count(90),
            count(10),
            count(3),
            count(2),
            count(50),
            count(90),
            count(100),
            count(100),
        )
    }

    #[test]
    fn rates_and_latencies_compare_two_pages() {
        let (earlier, now) = (
            CountsByAgent::read(&page(1)).unwrap(),
            CountsByAgent::read(&page(3)).unwrap(),
        );
        let rows = now.rows(&earlier, Duration::from_secs(2));
        let [row] = rows.as_slice() else {
            panic!("{rows:?}")
        };
        assert_eq!(row.agent, "waf");
        assert_eq!(row.state, State::Degraded);
        assert_eq!(row.decisions["allow"], 90.0);
        assert_eq!(row.decisions["block"], 10.0);
        assert_eq!(row.failures, 5.0);
        assert_eq!(row.median, Some(0.001));
        assert_eq!(row.p99, Some(0.002));
    }

    #[test]
    fn counter_reset_gives_no_negative_rate() {
        let (earlier, now) = (
            CountsByAgent::read(&page(3)).unwrap(),
            CountsByAgent::read(&page(1)).unwrap(),
        );
        let rows = now.rows(&earlier, Duration::from_secs(1));
        assert_eq!(rows[0].decisions["allow"], 90.0);
        assert_eq!(rows[0].median, Some(0.001));
    }

    #[test]
    fn states_are_distinguished() {
        let of = |active, healthy, paused, open_breakers| {
            State::of(Connections {
                active,
                healthy,
                paused,
                open_breakers,
            })
        };
        assert_eq!(of(4.0, 4.0, 0.0, 0.0), State::Up);
        assert_eq!(of(4.0, 0.0, 4.0, 0.0), State::Paused);
        assert_eq!(of(4.0, 0.0, 0.0, 0.0), State::Down);
        assert_eq!(of(0.0, 0.0, 0.0, 0.0), State::Down);
        assert_eq!(of(4.0, 4.0, 0.0, 1.0), State::CircuitOpen);
    }

    #[test]
    fn other_metrics_are_ignored() {
        assert_eq!(
            CountsByAgent::read("# TYPE up gauge\nup 1\n").unwrap(),
            CountsByAgent::default()
        );
    }
}
