//! Export of the pool's metrics as Prometheus text.

use super::histogram::HistogramSnapshot;
use super::protocol::{AgentMetrics, ProtocolMetricsSnapshot};
use super::reported::{Exposition, Histogram, Kind, Reading, write_labels};
use std::sync::Arc;

const MICROS_PER_SECOND: f64 = 1e6;

/// Describes a metric.
macro_rules! about {
    ($kind:ident $name:expr, $help:literal) => {
        About {
            name: $name,
            help: $help,
            kind: Kind::$kind,
        }
    };
}

impl ProtocolMetricsSnapshot {
    /// Returns all metrics in the Prometheus text format: `{prefix}_…` for all agents together,
    /// `{prefix}_agent_…` with the label `agent_id` for each agent. docs/operations.md lists the
    /// series.
    ///
    /// Characters of the prefix that a metric name may not contain are replaced by `_`.
    pub fn to_prometheus(&self, prefix: &str) -> String {
        let prefix = name_of(prefix);
        let mut out = Exposition::default();
        for (family, value) in self.poolwide() {
            let name = format!("{prefix}_{}", family.name);
            out.begin(&name, Some(family.help), family.kind);
            out.series(&name, "", &value);
        }
        let name = format!("{prefix}_{}", REJECTIONS.name);
        out.begin(&name, Some(REJECTIONS.help), REJECTIONS.kind);
        for (reason, count) in self.rejections.by_reason() {
            let labels = write_labels([(REASON, reason)]);
            out.series(&name, &labels, &Reading::Counter(count));
        }
        for family in FAMILIES {
            let name = format!("{prefix}_{}", family.about.name);
            family.write(&name, [(None, &self.total)], &mut out);
        }
        for family in FAMILIES {
            let name = format!("{prefix}_agent_{}", family.about.name);
            let agents = self.agents.iter();
            let agents = agents.map(|(id, metrics)| (Some(id.as_str()), metrics));
            family.write(&name, agents, &mut out);
        }
        out.finish()
    }

    pub(super) fn poolwide(&self) -> [(About, Reading); 7] {
        let counter = Reading::Counter;
        let gauge = |value: u64| Reading::Gauge(value as f64);
        macro_rules! metrics {
            ($($kind:ident $reading:ident $field:ident $help:literal;)+) => {
                [$((about!($kind stringify!($field), $help), $reading(self.$field))),+]
            };
        }
        metrics! {
            Counter counter affinity_evictions_total
                "Pinned correlation ids evicted because no event came.";
            Counter counter affinity_rejections_total
                "Exchanges not pinned because the limit of pinned correlation ids was reached.";
            Gauge gauge correlation_affinities "Pinned correlation ids.";
            Gauge gauge sticky_sessions "Sticky sessions.";
            Gauge gauge memory_bytes "Memory that agents make the pool hold.";
            Gauge gauge memory_limit_bytes "Limit of memory_bytes.";
            Counter counter connections_ended_for_memory_total
                "Connections closed because memory was short and they held most.";
        }
    }
}

/// The metric of HTTP messages that were not forwarded, and its label.
pub(super) const REJECTIONS: About =
    about!(Counter "rejections_total", "HTTP messages that were not forwarded, by reason.");
pub(super) const REASON: &str = "reason";

/// Name, description and type of a metric.
pub(super) struct About {
    pub(super) name: &'static str,
    help: &'static str,
    kind: Kind,
}

/// A metric of agents, and the way to read its values.
pub(super) struct Family {
    pub(super) about: About,
    pub(super) values: Values,
}

pub(super) enum Values {
    /// A counter.
    Count(fn(&AgentMetrics) -> u64),
    /// A gauge.
    Gauge(fn(&AgentMetrics) -> f64),
    /// A histogram of durations.
    Time(fn(&AgentMetrics) -> &HistogramSnapshot),
    /// Counters, one series for each value of a label.
    Counts(&'static str, &'static [Labelled<u64>]),
    /// Histograms of durations, one series for each value of a label.
    Times(&'static str, &'static [LabelledTimes]),
}

/// Value of a label, and the way to read the value of its series.
type Labelled<T> = (&'static str, fn(&AgentMetrics) -> T);
type LabelledTimes = (&'static str, fn(&AgentMetrics) -> &HistogramSnapshot);

impl Family {
    /// Writes the series of the given agents. Without an agent id the label `agent_id` is omitted.
    fn write<'a>(
        &self,
        name: &str,
        agents: impl IntoIterator<Item = (Option<&'a str>, &'a AgentMetrics)>,
        out: &mut Exposition,
    ) {
        let mut agents = agents.into_iter().peekable();
        if agents.peek().is_none() {
            return;
        }
        out.begin(name, Some(self.about.help), self.about.kind);
        for (agent_id, metrics) in agents {
            for (label, reading) in self.values.of(metrics) {
                let agent = agent_id.map(|id| ("agent_id", id));
                let labels = write_labels(agent.into_iter().chain(label));
                out.series(name, &labels, &reading);
            }
        }
    }
}

/// Label of a series, if it has one, and its value.
type Series = (Option<(&'static str, &'static str)>, Reading);

impl Values {
    fn of(&self, metrics: &AgentMetrics) -> Vec<Series> {
        match self {
            Self::Count(count) => vec![(None, Reading::Counter(count(metrics)))],
            Self::Gauge(value) => vec![(None, Reading::Gauge(value(metrics)))],
            Self::Time(times) => vec![(None, in_seconds(times(metrics)))],
            Self::Counts(label, counts) => counts
                .iter()
                .map(|(value, count)| (Some((*label, *value)), Reading::Counter(count(metrics))))
                .collect(),
            Self::Times(label, times) => times
                .iter()
                .map(|(value, times)| (Some((*label, *value)), in_seconds(times(metrics))))
                .collect(),
        }
    }
}

fn in_seconds(times: &HistogramSnapshot) -> Reading {
    let mut cumulative = 0;
    let buckets = times.buckets.iter().zip(&times.counts);
    let buckets = buckets.map(|(bound, count)| {
        cumulative += count;
        (*bound as f64 / MICROS_PER_SECOND, cumulative)
    });
    Reading::Histogram(Arc::new(Histogram {
        buckets: buckets.collect(),
        sum: times.sum as f64 / MICROS_PER_SECOND,
        count: times.count,
    }))
}

/// Replaces the characters of a prefix that a metric name may not contain.
pub(super) fn name_of(prefix: &str) -> String {
    let is_allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | ':');
    let replaced = prefix.chars().map(|c| if is_allowed(c) { c } else { '_' });
    let name: String = replaced.collect();
    if name.starts_with(|c: char| c.is_ascii_digit()) {
        return format!("_{name}");
    }
    name
}

macro_rules! families {
    ($($kind:ident $name:literal $help:literal $values:expr;)+) => {
        &[$(Family { about: about!($kind $name, $help), values: $values }),+]
    };
}

/// Counts that are labelled by their names.
macro_rules! labelled {
    ($counts:ident: $($name:ident),+) => {
        &[$((stringify!($name), |of| of.$counts.$name)),+]
    };
}

use Values::{Count, Counts, Gauge, Time, Times};

/// The metrics of agents, in the order of the export.
pub(super) const FAMILIES: &[Family] = families! {
    Counter "requests_total" "Calls made." Count(|of| of.calls.made);
    Counter "responses_total" "Calls answered by their agent." Count(|of| of.calls.answered);
    Counter "decisions_total" "Answers by decision."
        Counts("decision", labelled!(decisions: allow, block, redirect, challenge));
    Counter "failures_total" "Calls that ended without an answer, by reason."
        Counts("reason", labelled!(
            calls: timed_out, connection_closed, undecodable, cancelled, given_up, too_large,
            paused, busy, queue_full, queue_timed_out, unavailable, circuit_open
        ));
    Counter "skipped_total" "Calls not sent because the agent does not subscribe to this kind of event."
        Count(|of| of.calls.skipped);
    Counter "timeouts_total" "Calls ended by their deadline." Count(|of| of.calls.timed_out);
    Counter "connection_errors_total" "Calls that lost their connection or found none."
        Count(|of| of.calls.connection_closed + of.calls.unavailable);
    Counter "serialization_errors_total" "Calls whose event was too large or whose answer did not decode."
        Count(|of| of.calls.undecodable + of.calls.too_large);
    Counter "flow_control_rejections_total" "Calls rejected, or allowed without the agent, because of a pause."
        Count(|of| of.calls.paused);
    Counter "flow_control_pauses_total" "Pauses that the agent asked for."
        Count(|of| of.flow_control_pauses);
    Counter "flow_control_resumes_total" "Pauses that ended." Count(|of| of.flow_control_resumes);
    Counter "faults_total" "Faults that do not belong to a single call, by kind."
        Counts("kind", &[
            ("late_answer", |of| of.faults.late_answers),
            ("unmatched_answer", |of| of.faults.unmatched_answers),
            ("undecodable_answer", |of| of.faults.undecodable_answers),
            ("undecodable_message", |of| of.faults.undecodable_messages),
            ("unexpected_message", |of| of.faults.unexpected_messages),
            ("invalid_frame", |of| of.faults.invalid_frames),
            ("connection_lost", |of| of.faults.connections_lost),
        ]);
    Counter "failed_open_total" "Failed calls that were allowed because the failure mode is open."
        Count(|of| of.failed_open);
    Counter "allowed_while_paused_total" "Calls allowed without the agent because of a pause."
        Count(|of| of.allowed_while_paused);
    Counter "exchanges_cancelled_total" "Exchanges dropped before their end."
        Count(|of| of.exchanges_cancelled);
    Counter "reconnects_total" "Connections that replaced lost ones." Count(|of| of.reconnects);
    Counter "circuit_breaker_trips_total" "Times that the circuit breaker opened."
        Count(|of| of.circuit_breaker_trips);
    Counter "shared_memory_doorbells_total" "Times that the sleeping agent was woken."
        Count(|of| of.shared_memory_doorbells);
    Counter "shared_memory_sleeps_total" "Times that a connection through shared memory went to sleep."
        Count(|of| of.shared_memory_sleeps);
    Counter "shared_memory_vain_spins_total" "Waits without sleeping in which nothing came."
        Count(|of| of.shared_memory_vain_spins);
    Counter "shared_memory_failures_total" "Connections that stayed on their socket because shared memory failed."
        Count(|of| of.shared_memory_failures);
    Gauge "shared_memory_connections" "Open connections through shared memory."
        Gauge(|of| of.shared_memory_connections as f64);
    Gauge "in_flight_requests" "Calls made and not ended." Gauge(|of| of.in_flight_requests as f64);
    Gauge "pending_requests" "Calls that have a slot and so may be with the agent."
        Gauge(|of| of.pending_requests as f64);
    Gauge "active_connections" "Open connections." Gauge(|of| of.active_connections as f64);
    Gauge "healthy_connections" "Connections that take new exchanges."
        Gauge(|of| of.healthy_connections as f64);
    Gauge "paused_connections" "Connections that the agent paused."
        Gauge(|of| of.paused_connections as f64);
    Gauge "connecting_connections" "Missing connections that are being opened."
        Gauge(|of| of.connecting_connections as f64);
    Gauge "open_circuit_breakers" "Agents whose circuit breaker is not closed."
        Gauge(|of| of.open_circuit_breakers as f64);
    Gauge "buffer_utilization_percent" "Fill level of the fullest send queue, in percent."
        Gauge(|of| (of.buffer_utilization * 100.0).round());
    Gauge "buffer_utilization_ratio" "Fill level of the fullest send queue, from 0 to 1."
        Gauge(|of| of.buffer_utilization);
    Histogram "request_duration_seconds" "Time from making a call to receiving its answer or to its failure."
        Time(|of| &of.request_duration);
    Histogram "serialization_seconds" "Time to encode an event, of timed calls."
        Time(|of| &of.stages.encode);
    Histogram "stage_duration_seconds" "Time in each stage of timed calls."
        Times("stage", &[
            ("encode", |of| &of.stages.encode),
            ("wait", |of| &of.stages.wait),
            ("wire", |of| &of.stages.wire),
            ("decode", |of| &of.stages.decode),
        ]);
};
