//! Metrics reports.

use super::{unwrap, wrap};
use crate::protocol::{
    CounterMetric, GaugeMetric, HistogramBucket, HistogramMetric, MetricsReport,
};
use crate::wire::MessageType;
use crate::wire::decode::DecodeErrorKind;
use crate::wire::protobuf::generated as proto;

pub(in crate::wire) fn encode_metrics_report(report: &MetricsReport) -> Vec<u8> {
    let message = proto::MetricsReport {
        agent_id: report.agent_id.clone(),
        timestamp_ms: report.timestamp_ms,
        interval_ms: report.interval_ms,
        counters: report
            .counters
            .iter()
            .map(|counter| proto::CounterMetric {
                name: counter.name.clone(),
                help: counter.help.clone(),
                labels: counter.labels.clone(),
                value: counter.value,
            })
            .collect(),
        gauges: report
            .gauges
            .iter()
            .map(|gauge| proto::GaugeMetric {
                name: gauge.name.clone(),
                help: gauge.help.clone(),
                labels: gauge.labels.clone(),
                value: gauge.value,
            })
            .collect(),
        histograms: report
            .histograms
            .iter()
            .map(|histogram| proto::HistogramMetric {
                name: histogram.name.clone(),
                help: histogram.help.clone(),
                labels: histogram.labels.clone(),
                sum: histogram.sum,
                count: histogram.count,
                buckets: histogram
                    .buckets
                    .iter()
                    .map(|bucket| proto::HistogramBucket {
                        le: bucket.le,
                        count: bucket.count,
                    })
                    .collect(),
            })
            .collect(),
    };
    wrap(MessageType::MetricsReport, &message)
}

pub(in crate::wire) fn decode_metrics_report(
    payload: &[u8],
) -> Result<MetricsReport, DecodeErrorKind> {
    let report: proto::MetricsReport = unwrap(MessageType::MetricsReport, payload)?;
    Ok(MetricsReport {
        agent_id: report.agent_id,
        timestamp_ms: report.timestamp_ms,
        interval_ms: report.interval_ms,
        counters: report
            .counters
            .into_iter()
            .map(|counter| CounterMetric {
                name: counter.name,
                help: counter.help,
                labels: counter.labels,
                value: counter.value,
            })
            .collect(),
        gauges: report
            .gauges
            .into_iter()
            .map(|gauge| GaugeMetric {
                name: gauge.name,
                help: gauge.help,
                labels: gauge.labels,
                value: gauge.value,
            })
            .collect(),
        histograms: report
            .histograms
            .into_iter()
            .map(|histogram| HistogramMetric {
                name: histogram.name,
                help: histogram.help,
                labels: histogram.labels,
                sum: histogram.sum,
                count: histogram.count,
                buckets: histogram
                    .buckets
                    .into_iter()
                    .map(|bucket| HistogramBucket {
                        le: bucket.le,
                        count: bucket.count,
                    })
                    .collect(),
            })
            .collect(),
    })
}
