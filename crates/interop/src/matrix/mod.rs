//! The interop matrix: every message between every two of tollgate and the published versions, over Unix
//! sockets in both encodings and over gRPC, each cell the outcome of a run.

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
mod table;
mod wire;

pub use cell::{Cell, Outcome};
pub use column::{Column, Extension, Maker};
pub use notice::Notice;
pub use reason::Reason;
pub use row::{PARTS, Row, Subject};
pub use table::{difference, replaced};
pub use wire::Wire;

use crate::meeting::AGENT;
use crate::peer::Version;
use reactions::Reactions;
use session::Session;
use std::path::Path;
use std::time::Duration;
use tokio::task::JoinSet;
use tollgate::{AgentPool, AgentPoolConfig};

/// How long a proxy waits for an answer: some never come.
const LIMIT: Duration = Duration::from_secs(5);

/// The columns that were run, each with its cells in the order of [`rows`].
#[derive(Debug)]
pub struct Matrix {
    /// In the order of the table.
    pub columns: Vec<(Column, Vec<Cell>)>,
}

impl Matrix {
    /// Runs every cell between tollgate and these versions, all columns at once.
    ///
    /// # Panics
    ///
    /// If a side cannot be started or ended.
    pub async fn run(versions: &[Version]) -> Self {
        let mut running = JoinSet::new();
        for (place, column) in Column::between(versions).into_iter().enumerate() {
            running.spawn(async move { (place, column, cells_of(column).await) });
        }
        let mut columns = running.join_all().await;
        columns.sort_by_key(|(place, ..)| *place);
        let columns = columns
            .into_iter()
            .map(|(_, column, cells)| (column, cells));
        Self {
            columns: columns.collect(),
        }
    }

    /// Every cell with its place.
    pub fn cells(&self) -> impl Iterator<Item = (&Column, &'static Row, &Cell)> {
        self.columns.iter().flat_map(|(column, cells)| {
            rows()
                .zip(cells)
                .map(move |(row, cell)| (column, row, cell))
        })
    }
}

/// Every line of the table.
pub fn rows() -> impl Iterator<Item = &'static Row> {
    PARTS.iter().flat_map(|(_, rows)| *rows)
}

/// Between two of ours a cell counts for both, with and without the extension: the worse is kept.
async fn cells_of(column: Column) -> Vec<Cell> {
    let mut cells = cells_in(column).await;
    if column.is_ours_alone() {
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
    let session = Session::hold(column).await;
    let notices: Vec<_> = rows()
        .filter_map(|row| match row.subject {
            Subject::Notice(notice) => Some(notice),
            _ => None,
        })
        .collect();
    let reactions = Reactions::see(&column, &session, &notices).await;
    let cell = |row: &Row| {
        let outcome = match row.subject {
            Subject::Handshake => session.handshake(),
            Subject::Event(steps) => session.events(steps),
            Subject::Answer(step, field) => session.answer(step, field),
            Subject::Cancel => session.cancels(),
            Subject::PingFromProxy => session.ping(),
            Subject::PingFromAgent => reactions.to_ping(),
            Subject::Notice(notice) => reactions.to(notice),
        };
        Cell::new(outcome, &row.subject, &column)
    };
    rows().map(cell).collect()
}

/// Tollgate's pool with one connection to the agent of a column, or somebody in its place.
async fn pool_of(column: &Column, socket: &Path) -> AgentPool {
    let pool = AgentPool::with_config(AgentPoolConfig {
        connections_per_agent: 1,
        request_timeout: LIMIT,
        encodings: column.wire.offered_to(column.agent),
        use_extension: column.extension == Extension::Offered,
        // What is never answered says nothing of what comes after it.
        max_consecutive_errors: u32::MAX,
        circuit_breaker_threshold: 0,
        ..AgentPoolConfig::default()
    });
    pool.connect_agent(AGENT, socket.display().to_string())
        .await
        .expect("the pool connects");
    pool
}
