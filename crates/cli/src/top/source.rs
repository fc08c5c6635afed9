//! Sources of the data that `tollgate top` shows.

use super::counts::{Connections, CountsByAgent};
use super::page::ShownLines;
use crate::connect::{Connected, LinkChoice, Target, connect};
use crate::exit::AgentError;
use crate::output::printable;
use crate::scrape;
use anyhow::anyhow;
use hyper::Uri;
use std::time::Duration;

/// The watched agent or metrics.
pub(super) enum Source {
    /// The metrics that a proxy serves.
    Prometheus(Uri),
    /// An agent: pings it and collects the metrics that it reports.
    Agent { connected: Connected, name: String },
}

impl Source {
    pub(super) async fn agent(target: &Target, timeout: Duration) -> anyhow::Result<Self> {
        let connected = connect(target, None, 1, timeout, LinkChoice::Auto).await?;
        let capabilities = connected.agent.capabilities();
        let name = capabilities.map_or_else(
            || target.endpoint.clone(),
            |agent| printable(&format!("{} {}", agent.name, agent.version)).into_owned(),
        );
        Ok(Self::Agent { connected, name })
    }

    pub(super) fn name(&self) -> String {
        match self {
            Self::Prometheus(uri) => uri.to_string(),
            Self::Agent { name, .. } => name.clone(),
        }
    }

    /// Reads the current state. `timeout` limits reading metrics over HTTP.
    pub(super) async fn read(&self, timeout: Duration) -> anyhow::Result<Reading> {
        match self {
            Self::Prometheus(uri) => {
                let mut lines = ShownLines::default();
                scrape::get(uri, timeout, |piece| lines.take(piece)).await?;
                Reading::of(lines, None)
            }
            Self::Agent { connected, .. } => read_agent(connected).await,
        }
    }
}

async fn read_agent(Connected { pool, agent }: &Connected) -> anyhow::Result<Reading> {
    let round_trip = agent.ping().await;
    let round_trip = round_trip.map_err(|error| anyhow!(error.reason()))?;
    let connections = Connections {
        active: 1.0,
        healthy: f64::from(u8::from(agent.is_healthy())),
        ..Connections::default()
    };
    let lines = ShownLines::of(&pool.metrics_collector().export_prometheus());
    let mut reading = Reading::of(lines, Some(round_trip))?;
    let of_agent = reading.counts.0.entry(agent.id().to_owned()).or_default();
    of_agent.connections = Some(connections);
    Ok(reading)
}

/// The state of a source at one time.
pub(super) struct Reading {
    pub(super) counts: CountsByAgent,
    /// Round trip of a ping, if an agent is watched.
    pub(super) round_trip: Option<Duration>,
    /// Set if the page has more series of agents than are shown.
    pub(super) is_cut: bool,
}

impl Reading {
    fn of(lines: ShownLines, round_trip: Option<Duration>) -> anyhow::Result<Self> {
        let (text, is_cut) = lines.finish();
        Ok(Self {
            counts: CountsByAgent::read(&text)?,
            round_trip,
            is_cut,
        })
    }
}
