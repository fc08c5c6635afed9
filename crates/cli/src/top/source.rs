//! Sources of the data that `tollgate top` shows.

use super::counts::{Connections, CountsByAgent};
use crate::connect::{AGENT_ID, Target, connect};
use crate::exit::cause_of;
use crate::output::printable;
use crate::scrape;
use anyhow::anyhow;
use hyper::Uri;
use std::time::Duration;
use tollgate::AgentPool;

/// The watched agent or metrics.
pub(super) enum Source {
    /// The metrics that a proxy serves.
    Prometheus(Uri),
    /// An agent: pings it and collects the metrics that it reports.
    Agent { pool: AgentPool, name: String },
}

impl Source {
    pub(super) async fn agent(target: &Target, timeout: Duration) -> anyhow::Result<Self> {
        let pool = connect(target, None, 1, timeout).await?;
        let capabilities = pool.agent_capabilities(AGENT_ID).await;
        let name = capabilities.map_or_else(
            || target.endpoint.clone(),
            |agent| printable(&format!("{} {}", agent.name, agent.version)).into_owned(),
        );
        Ok(Self::Agent { pool, name })
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
            Self::Prometheus(uri) => Ok(Reading {
                counts: CountsByAgent::read(&scrape::get(uri, timeout).await?)?,
                round_trip: None,
            }),
            Self::Agent { pool, .. } => {
                let round_trip = pool.ping(AGENT_ID).await;
                let round_trip = round_trip.map_err(|error| anyhow!(cause_of(&error)))?;
                let mut counts = CountsByAgent::read(&pool.export_prometheus())?;
                let agent = counts.0.entry(AGENT_ID.to_owned()).or_default();
                agent.connections = Some(Connections {
                    active: 1.0,
                    healthy: f64::from(u8::from(pool.is_agent_healthy(AGENT_ID))),
                    ..Connections::default()
                });
                Ok(Reading {
                    counts,
                    round_trip: Some(round_trip),
                })
            }
        }
    }
}

/// The state of a source at one time.
pub(super) struct Reading {
    pub(super) counts: CountsByAgent,
    /// Round trip of a ping, if an agent is watched.
    pub(super) round_trip: Option<Duration>,
}
