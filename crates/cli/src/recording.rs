//! What a run leaves behind: enough to draw it, alone or beside a later one.

use crate::exit::UsageError;
use crate::latency::Quantile;
use crate::page::PageFile;
use crate::report::Report;
use crate::timeline::Point;
use serde::{Deserialize, Serialize};
use std::path::Path;

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
