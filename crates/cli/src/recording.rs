//! What a run leaves behind: enough to draw it, alone or beside a later one.

use crate::exit::UsageError;
use crate::latency::Quantile;
use crate::page::PageFile;
use crate::report::Report;
use crate::timeline::Point;
use serde::{Deserialize, Serialize};
use std::path::Path;
use tollgate::AgentPool;

/// A run, as it is kept in a file.
///
/// What `--json` prints is one too, with fewer points to draw.
#[derive(Serialize, Deserialize)]
pub(crate) struct Recording {
    #[serde(flatten)]
    pub(crate) report: Report,
    #[serde(flatten)]
    pub(crate) details: Details,
}

/// What only the drawing of a run needs.
#[derive(Default, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Details {
    /// The agent that was asked.
    pub(crate) endpoint: String,
    /// When the run began, as RFC 3339 has it.
    pub(crate) began_at: String,
    /// Latencies by the share of requests that took no longer.
    pub(crate) quantiles: Vec<Quantile>,
    /// Requests and failures so far, at points in time.
    pub(crate) timeline: Vec<Point>,
    /// Where the time of calls went, in order.
    pub(crate) stages: Vec<Stage>,
}

/// A part of the way of an event to the agent and of its answer back.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Stage {
    pub(crate) name: String,
    /// On average, in microseconds.
    pub(crate) micros: f64,
}

impl Stage {
    /// The stages of the calls of a pool that were timed.
    pub(crate) fn all(pool: &AgentPool) -> Vec<Self> {
        let stages = pool.protocol_metrics().snapshot().total.stages;
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
        Ok(recording.completed())
    }

    /// Writes the page, if there is to be one, and the figures to stdout; requests that failed then make it an
    /// error of the agent.
    pub(crate) fn conclude(&self, page: Option<PageFile>, json: bool) -> anyhow::Result<()> {
        page.map_or(Ok(()), |page| page.write(self))?;
        self.report.conclude(&self.details.endpoint, json)
    }

    /// With the latencies of the report, where there are no others.
    fn completed(mut self) -> Self {
        if self.details.quantiles.is_empty() {
            self.details.quantiles = self.report.latency().quantiles().to_vec();
        }
        self
    }
}
