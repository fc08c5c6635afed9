//! Metrics that agents report over their connections.
//!
//! Reports are untrusted. Series that would break a scrape or exceed the limits are dropped and
//! counted.

mod aggregator;
mod collector;
mod dropped;
mod families;
mod labels;
mod reporters;
mod sample;
mod text;

pub use aggregator::UnifiedMetricsAggregator;
pub use collector::{MetricsCollector, MetricsCollectorConfig, MetricsSnapshot};
pub use dropped::{DropReason, DroppedSeries};
pub(super) use labels::write_labels;
pub(super) use sample::{Histogram, Kind, Reading};
pub(super) use text::Exposition;
