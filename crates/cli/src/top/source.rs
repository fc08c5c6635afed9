//! Where `tollgate top` looks.

use super::board::{Board, Connections};
use crate::connect::{AGENT_ID, Target, connect};
use crate::exit::cause_of;
use crate::output::printable;
use crate::scrape;
use anyhow::anyhow;
use hyper::Uri;
use std::time::Duration;
use tollgate::AgentPool;

/// What is watched.
pub(super) enum Source {
    /// The metrics that a proxy serves.
    Prometheus(Uri),
    /// An agent itself: whether it answers, and what it reports.
    Agent { pool: AgentPool, name: String },
}

impl Source {
    pub(super) async fn agent(target: &Target, patience: Duration) -> anyhow::Result<Self> {
        let pool = connect(target, None, 1, patience).await?;
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

    /// How things are now.
    pub(super) async fn look(&self, patience: Duration) -> anyhow::Result<Look> {
        match self {
            Self::Prometheus(uri) => Ok(Look {
                board: Board::read(&scrape::get(uri, patience).await?)?,
                round_trip: None,
            }),
            Self::Agent { pool, .. } => {
                let round_trip = pool.ping(AGENT_ID).await;
                let round_trip = round_trip.map_err(|error| anyhow!(cause_of(&error)))?;
                let mut board = Board::read(&pool.export_prometheus())?;
                let agent = board.0.entry(AGENT_ID.to_owned()).or_default();
                agent.connections = Some(Connections {
                    active: 1.0,
                    healthy: f64::from(u8::from(pool.is_agent_healthy(AGENT_ID))),
                    ..Connections::default()
                });
                Ok(Look {
                    board,
                    round_trip: Some(round_trip),
                })
            }
        }
    }
}

/// What one look has shown.
pub(super) struct Look {
    pub(super) board: Board,
    /// Of a ping, where the agent itself is watched.
    pub(super) round_trip: Option<Duration>,
}
