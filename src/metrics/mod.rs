//! Metrics: counters of calls, decisions and faults, and the metrics that agents report.

mod calls;
mod counters;
mod export;
#[cfg(feature = "metrics")]
mod facade;
mod histogram;
mod protocol;
mod reported;
mod sharded;
mod stages;

pub(crate) use calls::{CallCounter, CallTally};
pub use calls::{CallCounts, DecisionCounts};
pub use counters::FaultCounts;
pub(crate) use counters::{Fault, FaultCounters};
pub use histogram::HistogramSnapshot;
pub use protocol::{AgentMetrics, ProtocolMetricsSnapshot};
pub use reported::{
    DropReason, DroppedSeries, MetricsCollector, MetricsCollectorConfig, MetricsSnapshot,
    UnifiedMetricsAggregator,
};
pub(crate) use stages::StageTally;
pub use stages::{CallTimings, StageHistograms};
