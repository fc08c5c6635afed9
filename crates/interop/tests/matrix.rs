//! The interop matrix in docs/interop.md is correct.

use std::collections::BTreeSet;
use tollgate_interop::matrix::{
    Cell, Column, Implementation, Matrix, Outcome, Row, difference, replaced, rows,
};
use tollgate_interop::{Step, script, selected_versions};

const DOCUMENT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/interop.md");

/// Set by scripts/interop-matrix to write the tables instead of comparing them.
const REWRITE: &str = "TOLLGATE_MATRIX_REWRITE";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn documented_matrix_is_correct() {
    let matrix = Matrix::run(&selected_versions()).await;
    expect_no_failure_by_tollgate(&matrix);
    expect_no_false_allow(&matrix);
    expect_every_failure_explained(&matrix);

    let document = std::fs::read_to_string(DOCUMENT).expect("the document is readable");
    if std::env::var_os(REWRITE).is_some() {
        std::fs::write(DOCUMENT, replaced(&document, &matrix)).expect("the document is writable");
        return;
    }
    let difference = difference(&document, &matrix);
    assert!(
        difference.is_empty(),
        "docs/interop.md is outdated; scripts/interop-matrix writes it again:\n{}",
        difference.join("\n")
    );
}

fn expect_no_failure_by_tollgate(matrix: &Matrix) {
    let failed = matrix
        .cells()
        .filter(|(column, _, cell)| cell.is_caused_by_tollgate(column));
    expect_none("tollgate fails", failed);
}

/// Checks that tollgate's proxy returns only the answers of the agent.
fn expect_no_false_allow(matrix: &Matrix) {
    let wrong = matrix.cells().filter(|(column, _, cell)| {
        let is_wrong = matches!(
            cell.outcome,
            Outcome::Allowed | Outcome::Misread | Outcome::WrongAnswer
        );
        column.proxy == Implementation::Tollgate && is_wrong && cell.reason.is_none()
    });
    expect_none(
        "tollgate returns an answer that the handler did not give",
        wrong,
    );
}

fn expect_every_failure_explained(matrix: &Matrix) {
    let unexplained = matrix
        .cells()
        .filter(|(.., cell)| !cell.works() && cell.reason.is_none());
    expect_none("no reason is known", unexplained);
}

fn expect_none<'m>(wrong: &str, cells: impl Iterator<Item = (&'m Column, &'static Row, &'m Cell)>) {
    let line = |(column, row, cell): (&Column, &Row, &Cell)| {
        format!("{} {column}, {}: {cell}", column.wire, row.label)
    };
    let lines: Vec<_> = cells.map(line).collect();
    assert!(lines.is_empty(), "{wrong}:\n{}", lines.join("\n"));
}

#[test]
fn every_answered_step_has_a_row() {
    let in_rows: BTreeSet<_> = rows().flat_map(Row::steps).collect();
    let left_out: Vec<_> = script()
        .into_iter()
        .filter(|step: &Step| step.answer.is_some() && !in_rows.contains(step.name.as_str()))
        .map(|step| step.name)
        .collect();
    // These only wait until the agent has read the steps before them.
    assert_eq!(
        left_out,
        ["request_headers:/last", "request_headers:/after"]
    );
}
