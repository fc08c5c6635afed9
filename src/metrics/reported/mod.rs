//! What agents count themselves and report over their connections.
//!
//! A report comes from outside: whatever in it would break a scrape, or grow without bound, is left out and counted.

mod aggregator;
mod collector;
mod dropped;
mod families;
mod reporters;
mod sample;
mod text;

pub use aggregator::UnifiedMetricsAggregator;
pub use collector::{MetricsCollector, MetricsCollectorConfig, MetricsSnapshot};
pub use dropped::{DropReason, DroppedSeries};
pub(super) use sample::{Histogram, Kind, Reading};
pub(super) use text::{Exposition, write_labels};
