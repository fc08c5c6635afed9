//! Export of the pool's metrics through the `metrics` facade.

use super::export::{FAMILIES, REASON, REJECTIONS, Values, name_of};
use super::protocol::{AgentMetrics, ProtocolMetricsSnapshot};
use super::reported::Reading;
use metrics::{Key, Label, Level, Metadata, Recorder};

const METADATA: Metadata<'static> = Metadata::new("tollgate", Level::INFO, Some(module_path!()));

impl ProtocolMetricsSnapshot {
    /// Sets the counters and gauges of [`to_prometheus`](Self::to_prometheus) in the recorder that
    /// is installed for the `metrics` facade, under the same names and labels. Call it
    /// periodically, or before that recorder exports. Calls to agents never wait for the recorder.
    ///
    /// Histograms are not published: the facade takes single values, which are not kept.
    pub fn publish(&self, prefix: &str) {
        let prefix = name_of(prefix);
        metrics::with_recorder(|recorder| {
            for (about, value) in self.poolwide() {
                let key = Key::from_name(format!("{prefix}_{}", about.name));
                match value {
                    Reading::Counter(count) => set_counter(recorder, key, count),
                    Reading::Gauge(value) => set_gauge(recorder, key, value),
                    Reading::Histogram(_) => {}
                }
            }
            for (reason, count) in self.rejections.by_reason() {
                let name = format!("{prefix}_{}", REJECTIONS.name);
                let key = Key::from_parts(name, vec![Label::new(REASON, reason)]);
                set_counter(recorder, key, count);
            }
            publish_agent(recorder, &prefix, &[], &self.total);
            for (agent_id, metrics) in &self.agents {
                let label = Label::new("agent_id", agent_id.clone());
                publish_agent(recorder, &format!("{prefix}_agent"), &[label], metrics);
            }
        });
    }
}

fn publish_agent(recorder: &dyn Recorder, prefix: &str, labels: &[Label], agent: &AgentMetrics) {
    for family in FAMILIES {
        let key = |more: Option<Label>| {
            let labels: Vec<_> = labels.iter().cloned().chain(more).collect();
            Key::from_parts(format!("{prefix}_{}", family.about.name), labels)
        };
        match &family.values {
            Values::Count(count) => set_counter(recorder, key(None), count(agent)),
            Values::Gauge(value) => set_gauge(recorder, key(None), value(agent)),
            Values::Counts(label, counts) => {
                for (value, count) in *counts {
                    let label = Label::new(*label, *value);
                    set_counter(recorder, key(Some(label)), count(agent));
                }
            }
            Values::Time(_) | Values::Times(..) => {}
        }
    }
}

fn set_counter(recorder: &dyn Recorder, key: Key, count: u64) {
    recorder.register_counter(&key, &METADATA).absolute(count);
}

fn set_gauge(recorder: &dyn Recorder, key: Key, value: f64) {
    recorder.register_gauge(&key, &METADATA).set(value);
}
