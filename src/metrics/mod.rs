//! What is counted.

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

pub use calls::{CallCounts, DecisionCounts};
pub(crate) use calls::{CallTally, Ending};
pub use counters::FaultCounts;
pub(crate) use counters::{Counters, Fault};
pub use histogram::HistogramSnapshot;
pub(crate) use protocol::Poolwide;
pub use protocol::{AgentMetrics, ProtocolMetricsSnapshot};
pub use reported::{
    DropReason, DroppedSeries, MetricsCollector, MetricsCollectorConfig, MetricsSnapshot,
    UnifiedMetricsAggregator,
};
pub(crate) use stages::StageTally;
pub use stages::{CallTimings, StageHistograms};
