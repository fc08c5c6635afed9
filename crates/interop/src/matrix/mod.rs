//! The interop matrix: every message between all pairs of tollgate and the versions of
//! `zentinel-agent-protocol`, over Unix sockets in both encodings and over gRPC.
//!
//! Each cell is the outcome of a run.

mod cell;
mod column;
mod fidelity;
mod notice;
mod raw_agent;
mod reactions;
mod reason;
mod row;
mod running_agent;
mod session;
mod settings;
mod table;
mod wire;

pub use cell::{Cell, Outcome};
pub use column::{Column, Extension, Implementation};
pub use notice::Notice;
pub use reason::Reason;
pub use row::{FirstSettings, PARTS, Row, Subject};
pub use table::{difference, replaced};
pub use wire::Wire;

use crate::peer::Version;
use crate::pool_with_peer::AGENT;
use reactions::Reactions;
use session::Session;
use std::path::Path;
use std::time::Duration;
use tokio::task::JoinSet;
use tollgate::{Agent, AgentConfig, AgentPool, AgentPoolConfig};

/// Timeout of a proxy for an answer. Some answers never arrive.
const LIMIT: Duration = Duration::from_secs(5);

/// Columns that were run, each with its cells in the order of [`rows`].
#[derive(Debug)]
pub struct Matrix {
    /// Columns in the order of the table.
    pub columns: Vec<(Column, Vec<Cell>)>,
}

impl Matrix {
    /// Runs every cell between tollgate and these versions, all columns at the same time.
    ///
    /// # Panics
    ///
    /// If a side cannot be started or stopped.
    pub async fn run(versions: &[Version]) -> Self {
        let mut running = JoinSet::new();
        for (index, column) in Column::between(versions).into_iter().enumerate() {
            running.spawn(async move { (index, column, cells_of(column).await) });
        }
        let mut columns = running.join_all().await;
        columns.sort_by_key(|(index, ..)| *index);
        let columns = columns
            .into_iter()
            .map(|(_, column, cells)| (column, cells));
        Self {
            columns: columns.collect(),
        }
    }

    /// Iterates over all cells with their columns and rows.
    pub fn cells(&self) -> impl Iterator<Item = (&Column, &'static Row, &Cell)> {
        self.columns.iter().flat_map(|(column, cells)| {
            rows()
                .zip(cells)
                .map(move |(row, cell)| (column, row, cell))
        })
    }
}

/// Iterates over all rows of the table.
pub fn rows() -> impl Iterator<Item = &'static Row> {
    PARTS.iter().flat_map(|(_, rows)| *rows)
}

/// Runs a column. If both sides are this tollgate, it runs with and without the extension, and the
/// worse outcome is kept.
async fn cells_of(column: Column) -> Vec<Cell> {
    let mut cells = cells_in(column).await;
    if column.is_present_on_both_sides() {
        let extension = Extension::LeftOut;
        let plain = cells_in(Column {
            extension,
            ..column
        })
        .await;
        for (cell, plain) in cells.iter_mut().zip(plain).filter(|(cell, _)| cell.works()) {
            *cell = plain;
        }
    }
    cells
}

async fn cells_in(column: Column) -> Vec<Cell> {
    let session = Session::run(column).await;
    let notices: Vec<_> = rows()
        .filter_map(|row| match row.subject {
            Subject::Notice(notice) => Some(notice),
            _ => None,
        })
        .collect();
    let reactions = Reactions::observe(&column, &session, &notices).await;
    let mut cells = Vec::new();
    for row in rows() {
        let outcome = match row.subject {
            Subject::FirstSettings(case) => settings::outcome(&column, case).await,
            Subject::Handshake => session.handshake(),
            Subject::Event(steps) => session.events(steps),
            Subject::Answer(step, field) => session.answer(step, field),
            Subject::Cancel => session.cancels(),
            Subject::PingFromProxy => session.ping(),
            Subject::PingFromAgent => reactions.to_ping(),
            Subject::Notice(notice) => reactions.to_notice(notice),
        };
        cells.push(Cell::new(outcome, &row.subject, &column));
    }
    cells
}

/// Returns tollgate's pool with one connection to the agent of a column or to its raw agent, and
/// the handle of the agent.
async fn pool_of(column: &Column, socket: &Path) -> (AgentPool, Agent) {
    let pool = empty_pool(column);
    let agent = pool
        .add(AgentConfig::new(AGENT, socket.display().to_string()).require_connection())
        .await
        .expect("the pool connects");
    (pool, agent)
}

fn empty_pool(column: &Column) -> AgentPool {
    AgentPool::with_config(
        AgentPoolConfig::default()
            .connections_per_agent(1)
            .request_timeout(LIMIT)
            .encodings(column.wire.offered_to(column.agent))
            .use_extension(column.extension == Extension::Offered)
            // Calls that are never answered must not affect later ones.
            .max_consecutive_errors(u32::MAX)
            .circuit_breaker_threshold(0),
    )
}
