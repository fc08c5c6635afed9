//! What is counted.

mod calls;
mod counters;
mod reported;
mod sharded;

pub use calls::CallCounts;
pub(crate) use calls::{CallTally, Ending};
pub use counters::FaultCounts;
pub(crate) use counters::{Counters, Fault};
pub use reported::{
    DropReason, DroppedSeries, MetricsCollector, MetricsCollectorConfig, MetricsSnapshot,
    UnifiedMetricsAggregator,
};
