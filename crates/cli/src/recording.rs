//! The data of a run: enough to draw its report, alone or compared with another run.

use crate::exit::UsageError;
use crate::latency::Quantile;
use crate::page::PageFile;
use crate::report::Report;
use crate::timeline::Point;
use serde::{Deserialize, Serialize};
use std::path::Path;
use tollgate::AgentPool;

/// A run as it is saved beside its report.
///
/// The output of `--json` can be read as one too. It has fewer points to draw.
#[derive(Serialize, Deserialize)]
pub(crate) struct Recording {
    #[serde(flatten)]
    pub(crate) report: Report,
    #[serde(flatten)]
    pub(crate) details: Details,
}

/// Data of a run that only its report shows.
#[derive(Default, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Details {
    /// Endpoint of the agent.
    pub(crate) endpoint: String,
    /// Start of the run in RFC 3339 format.
    pub(crate) began_at: String,
    /// Latencies by share of requests.
    pub(crate) quantiles: Vec<Quantile>,
    /// Cumulative counts of requests and failures over time.
    pub(crate) timeline: Vec<Point>,
    /// Average time of each stage of a call, in order.
    pub(crate) stages: Vec<Stage>,
}

/// A stage of a call, between sending the event and reading its answer.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Stage {
    pub(crate) name: String,
    /// Average time in microseconds.
    pub(crate) micros: f64,
}

impl Stage {
    /// Returns the stages of a pool's timed calls, without stages that were not timed.
    pub(crate) fn all(pool: &AgentPool) -> Vec<Self> {
        let stages = pool.metrics().snapshot().total.stages;
        let named = [
            ("encode", &stages.encode),
            ("wait", &stages.wait),
            ("wire and agent", &stages.wire),
            ("decode", &stages.decode),
        ];
        let timed = named.into_iter().filter(|(_, times)| times.count > 0);
        timed
            .map(|(name, times)| Self {
                name: name.to_owned(),
                micros: times.mean_micros(),
            })
            .collect()
    }
}

impl Recording {
    /// Reads a run from a file.
    pub(crate) fn read(file: &Path) -> Result<Self, UsageError> {
        let unusable = |cause: String| UsageError(format!("run {}: {cause}", file.display()));
        let text = std::fs::read(file).map_err(|error| unusable(error.to_string()))?;
        let recording: Self = serde_json::from_slice(&text)
            .map_err(|error| unusable(format!("not the JSON of a run: {error}")))?;
        Ok(recording.with_quantiles())
    }

    /// Writes the report, if one was asked for, and prints the figures. Returns an error if
    /// requests failed.
    pub(crate) fn conclude(&self, page: Option<PageFile>, json: bool) -> anyhow::Result<()> {
        page.map_or(Ok(()), |page| page.write(self))?;
        self.report.conclude(&self.details.endpoint, json)
    }

    /// Fills in missing quantiles from the report's percentiles.
    fn with_quantiles(mut self) -> Self {
        if self.details.quantiles.is_empty() {
            self.details.quantiles = self.report.latency().quantiles().to_vec();
        }
        self
    }
}
