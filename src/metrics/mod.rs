//! Metrics: counters of calls, decisions and faults, and the metrics that agents report.

mod calls;
mod counters;
mod export;
#[cfg(feature = "metrics")]
mod facade;
mod histogram;
mod protocol;
#[cfg_attr(
    not(feature = "http"),
    allow(dead_code, reason = "only proxies of HTTP reject messages")
)]
mod rejections;
mod reported;
mod sharded;
mod stages;

pub(crate) use calls::{CallCounter, CallTally};
pub use calls::{CallCounts, DecisionCounts};
pub use counters::FaultCounts;
pub(crate) use counters::{Fault, FaultCounters};
pub use histogram::HistogramSnapshot;
pub use protocol::{AgentMetrics, ProtocolMetricsSnapshot};
pub(crate) use rejections::RejectionCounters;
pub use rejections::RejectionCounts;
#[cfg(feature = "http")]
pub(crate) use rejections::RejectionKind;
pub use reported::{
    DropReason, DroppedSeries, MetricsCollector, MetricsCollectorConfig, MetricsSnapshot,
    UnifiedMetricsAggregator,
};
pub(crate) use stages::StageTally;
pub use stages::{CallTimings, StageHistograms};
