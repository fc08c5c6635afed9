//! The interop matrix in docs/protocol.md is what happens.

use std::collections::BTreeSet;
use tollgate_interop::matrix::{
    Cell, Column, Maker, Matrix, Outcome, Row, difference, replaced, rows,
};
use tollgate_interop::{Step, script, selected_versions};

const DOCUMENT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/protocol.md");

/// Set by scripts/interop-matrix: the table is written anew instead of compared.
const REWRITE: &str = "TOLLGATE_MATRIX_REWRITE";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_documented_matrix_is_what_happens() {
    let matrix = Matrix::run(&selected_versions()).await;
    nothing_fails_because_of_tollgate(&matrix);
    nothing_is_allowed_silently(&matrix);
    everything_is_explained(&matrix);

    let document = std::fs::read_to_string(DOCUMENT).expect("the document can be read");
    if std::env::var_os(REWRITE).is_some() {
        std::fs::write(DOCUMENT, replaced(&document, &matrix)).expect("the document is written");
        return;
    }
    let difference = difference(&document, &matrix);
    assert!(
        difference.is_empty(),
        "docs/protocol.md says otherwise (scripts/interop-matrix writes it anew):\n{}",
        difference.join("\n")
    );
}

fn nothing_fails_because_of_tollgate(matrix: &Matrix) {
    let ours = matrix
        .cells()
        .filter(|(column, _, cell)| cell.is_our_fault(column));
    expect_none("tollgate fails", ours);
}

/// Tollgate's proxy only says `allow` if the agent's handler did, and of what it was given.
fn nothing_is_allowed_silently(matrix: &Matrix) {
    let wrong = matrix.cells().filter(|(column, _, cell)| {
        let is_wrong = matches!(
            cell.outcome,
            Outcome::Allowed | Outcome::Misread | Outcome::WrongAnswer
        );
        column.proxy == Maker::Tollgate && is_wrong
    });
    expect_none("tollgate takes for an answer what is none", wrong);
}

fn everything_is_explained(matrix: &Matrix) {
    let unexplained = matrix
        .cells()
        .filter(|(.., cell)| !cell.works() && cell.reason.is_none());
    expect_none("nobody knows why", unexplained);
}

fn expect_none<'m>(wrong: &str, cells: impl Iterator<Item = (&'m Column, &'static Row, &'m Cell)>) {
    let line = |(column, row, cell): (&Column, &Row, &Cell)| {
        format!("{} {column}, {}: {cell}", column.wire, row.label)
    };
    let lines: Vec<_> = cells.map(line).collect();
    assert!(lines.is_empty(), "{wrong}:\n{}", lines.join("\n"));
}

#[test]
fn every_step_that_is_answered_has_a_row() {
    let in_rows: BTreeSet<_> = rows().flat_map(Row::steps).collect();
    let left_out: Vec<_> = script()
        .into_iter()
        .filter(|step: &Step| step.answer.is_some() && !in_rows.contains(step.name.as_str()))
        .map(|step| step.name)
        .collect();
    // The last one only ends the script.
    assert_eq!(left_out, ["request_headers:/last"]);
}
