//! A handler wrapper that counts decisions and measures their durations.

use std::array;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};
use tollgate::{
    AgentCapabilities, AgentControl, AgentHandler, AgentResponse, BodyChunk, CancelReason,
    Decision, RequestComplete, RequestHeadersView, ResponseHeadersView,
    control::{CounterMetric, GaugeMetric, HistogramBucket, HistogramMetric, MetricsReport},
    events::{Configure, GuardrailInspect, WebSocketFrame},
    metrics::MetricsCollector,
};

/// A handler whose decisions are counted.
pub(crate) struct Counted<H> {
    handler: H,
    counts: Arc<Counts>,
    reports_metrics: bool,
}

/// Counts of answered events by decision and by duration.
#[derive(Debug, Default)]
pub(crate) struct Counts {
    decisions: [AtomicU64; DECISIONS.len()],
    durations: [AtomicU64; BOUNDS_US.len() + 1],
    sum_ns: AtomicU64,
}

const DECISIONS: [&str; 4] = ["allow", "block", "redirect", "challenge"];

/// Upper bounds of the duration buckets, in microseconds. A further bucket holds longer durations.
const BOUNDS_US: [u64; 16] = [
    1, 2, 5, 10, 20, 50, 100, 200, 500, 1_000, 5_000, 10_000, 50_000, 100_000, 500_000, 1_000_000,
];

impl<H> Counted<H> {
    pub(crate) fn new(handler: H) -> Self {
        Self {
            handler,
            counts: Arc::default(),
            reports_metrics: false,
        }
    }

    /// Advertises metrics reports in the agent's capabilities.
    pub(crate) fn with_metrics_reports(mut self) -> Self {
        self.reports_metrics = true;
        self
    }

    pub(crate) fn counts(&self) -> Arc<Counts> {
        Arc::clone(&self.counts)
    }

    async fn count(&self, answer: impl Future<Output = AgentResponse>) -> AgentResponse {
        let began = Instant::now();
        let response = answer.await;
        self.counts.record(&response.decision, began.elapsed());
        response
    }
}

impl Counts {
    fn record(&self, decision: &Decision, took: Duration) {
        let decision = match decision {
            Decision::Allow => 0,
            Decision::Block { .. } => 1,
            Decision::Redirect { .. } => 2,
            Decision::Challenge { .. } => 3,
        };
        let bucket = BOUNDS_US.partition_point(|bound| Duration::from_micros(*bound) < took);
        self.decisions[decision].fetch_add(1, Ordering::Relaxed);
        self.durations[bucket].fetch_add(1, Ordering::Relaxed);
        let took = u64::try_from(took.as_nanos()).unwrap_or(u64::MAX);
        self.sum_ns.fetch_add(took, Ordering::Relaxed);
    }

    /// Returns all counts so far as a metrics report for proxies.
    pub(crate) fn report(&self, agent_id: &str, interval: Duration) -> MetricsReport {
        let interval = u64::try_from(interval.as_millis()).unwrap_or(u64::MAX);
        let mut report = MetricsReport::new(agent_id, interval);
        let decisions = DECISIONS.iter().zip(&self.decisions);
        report.counters.extend(decisions.map(|(decision, count)| {
            let mut counter =
                CounterMetric::new("agent_decisions_total", count.load(Ordering::Relaxed));
            counter.help = Some("Events by decision.".to_owned());
            counter
                .labels
                .insert("decision".to_owned(), (*decision).to_owned());
            counter
        }));
        report.histograms.push(self.durations());
        report
    }

    /// Returns all counts so far, figures of the server, and what `add` adds, in the Prometheus
    /// text format.
    pub(crate) fn to_prometheus(
        &self,
        agent_id: &str,
        server: Option<&AgentControl>,
        add: &dyn Fn(&mut MetricsReport),
    ) -> String {
        let mut report = self.report(agent_id, Duration::ZERO);
        if let Some(server) = server {
            add_server(server, &mut report);
        }
        add(&mut report);
        let collector = MetricsCollector::new();
        collector.record(&report);
        collector.export_prometheus()
    }

    fn durations(&self) -> HistogramMetric {
        let counts: [u64; BOUNDS_US.len() + 1] =
            array::from_fn(|bucket| self.durations[bucket].load(Ordering::Relaxed));
        let mut cumulative = 0;
        let buckets = BOUNDS_US.iter().zip(counts).map(|(bound, count)| {
            cumulative += count;
            HistogramBucket {
                le: *bound as f64 / 1e6,
                count: cumulative,
            }
        });
        HistogramMetric {
            name: "agent_request_duration_seconds".to_owned(),
            help: Some("Time to decide on an event.".to_owned()),
            labels: Default::default(),
            buckets: buckets.collect(),
            sum: self.sum_ns.load(Ordering::Relaxed) as f64 / 1e9,
            count: counts.iter().sum(),
        }
    }
}

fn add_server(server: &AgentControl, report: &mut MetricsReport) {
    let gauges = [
        (
            "agent_connections",
            "Open connections to proxies.",
            server.connections(),
        ),
        (
            "agent_memory_bytes",
            "Memory that proxies make the server hold.",
            server.memory_used(),
        ),
        (
            "agent_memory_limit_bytes",
            "Limit of agent_memory_bytes.",
            server.memory_limit(),
        ),
    ];
    for (name, help, value) in gauges {
        let mut gauge = GaugeMetric::new(name, value as f64);
        gauge.help = Some(help.to_owned());
        report.gauges.push(gauge);
    }
    let name = "agent_connections_ended_for_memory_total";
    let mut ended = CounterMetric::new(name, server.ended_for_memory());
    ended.help = Some("Connections closed because memory was short and they held most.".to_owned());
    report.counters.push(ended);
}

impl<H: AgentHandler> AgentHandler for Counted<H> {
    fn capabilities(&self) -> AgentCapabilities {
        let mut capabilities = self.handler.capabilities();
        capabilities.features.metrics_export |= self.reports_metrics;
        capabilities
    }

    async fn on_request_headers(&self, event: RequestHeadersView<'_>) -> AgentResponse {
        self.count(self.handler.on_request_headers(event)).await
    }

    async fn on_request_body_chunk(&self, event: BodyChunk<'_>) -> AgentResponse {
        self.count(self.handler.on_request_body_chunk(event)).await
    }

    async fn on_response_headers(&self, event: ResponseHeadersView<'_>) -> AgentResponse {
        self.count(self.handler.on_response_headers(event)).await
    }

    async fn on_response_body_chunk(&self, event: BodyChunk<'_>) -> AgentResponse {
        self.count(self.handler.on_response_body_chunk(event)).await
    }

    async fn on_request_complete(&self, event: RequestComplete<'_>) -> AgentResponse {
        self.count(self.handler.on_request_complete(event)).await
    }

    async fn on_websocket_frame(&self, event: WebSocketFrame<'_>) -> AgentResponse {
        self.count(self.handler.on_websocket_frame(event)).await
    }

    async fn on_guardrail_inspect(&self, event: GuardrailInspect<'_>) -> AgentResponse {
        self.count(self.handler.on_guardrail_inspect(event)).await
    }

    async fn on_configure(&self, event: Configure<'_>) -> Result<(), String> {
        self.handler.on_configure(event).await
    }

    fn on_request_recalled(&self, event: RequestHeadersView<'_>) {
        self.handler.on_request_recalled(event);
    }

    fn on_cancel(&self, correlation_id: &str, reason: CancelReason) {
        self.handler.on_cancel(correlation_id, reason);
    }

    fn on_connection_closed(&self) {
        self.handler.on_connection_closed();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_are_exported_as_report_and_text() {
        let counts = Counts::default();
        counts.record(&Decision::Allow, Duration::from_micros(1));
        counts.record(&Decision::Allow, Duration::from_secs(9));
        let report = counts.report("waf", Duration::from_secs(1));
        assert_eq!(report.counters[0].value, 2);
        assert_eq!(report.histograms[0].buckets[0].count, 1);
        assert_eq!(report.histograms[0].buckets[15].count, 1);
        assert_eq!(report.histograms[0].count, 2);
        let text = counts.to_prometheus("waf", Some(&AgentControl::default()), &|_| {});
        assert!(
            text.contains(r#"agent_memory_limit_bytes{agent_id="waf"} 268435456"#),
            "{text}"
        );
        assert!(
            text.contains(r#"agent_decisions_total{agent_id="waf",decision="allow"} 2"#),
            "{text}"
        );
    }
}
