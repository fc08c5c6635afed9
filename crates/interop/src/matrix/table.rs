//! The matrix as it stands in the documentation.

use super::Matrix;
use super::cell::{Cell, Outcome};
use super::column::Column;
use super::reason::Reason;
use super::row::{PARTS, Row};
use super::wire::Wire;
use std::collections::BTreeMap;
use std::fmt::Write;

const BEGIN: &str = "<!-- interop matrix: begin, written by scripts/interop-matrix -->\n";
const END: &str = "<!-- interop matrix: end -->";

/// What the line above each table begins with.
const HEADING: &str = "### ";

/// Where a cell stands: the heading of the table, the column and the row.
type Place = (String, String, String);

/// The document with this matrix in place of the one it has.
///
/// # Panics
///
/// If it has no place for one.
pub fn replaced(document: &str, matrix: &Matrix) -> String {
    let (before, _, after) = parts_of(document);
    format!("{before}{BEGIN}{}{END}{after}", written(matrix))
}

/// What this run had otherwise than the document says; one line for each cell.
///
/// # Panics
///
/// If the document has no matrix.
pub fn difference(document: &str, matrix: &Matrix) -> Vec<String> {
    let documented = cells_in(document);
    let differing = matrix.cells().filter_map(|(column, row, cell)| {
        let found = cell.to_string();
        let expected = documented.get(&place(column, row));
        let is_same = expected == Some(&found);
        let expected = expected.map_or("nothing", String::as_str);
        (!is_same).then(|| {
            format!(
                "{}, {column}, {}: {found}, documented: {expected}",
                column.wire, row.label
            )
        })
    });
    differing.collect()
}

fn cells_in(document: &str) -> BTreeMap<Place, String> {
    let (_, tables, _) = parts_of(document);
    let (mut table, mut columns) = ("", Vec::new());
    let mut cells = BTreeMap::new();
    for line in tables.lines() {
        if let Some(heading) = line.strip_prefix(HEADING) {
            (table, columns) = (heading, Vec::new());
            continue;
        }
        let Some((row, entries)) = entries_of(line).filter(|_| !table.is_empty()) else {
            continue;
        };
        if columns.is_empty() {
            columns = entries;
            continue;
        }
        for (column, entry) in columns.iter().zip(entries) {
            let place = (table.to_owned(), (*column).to_owned(), row.to_owned());
            cells.insert(place, entry.to_owned());
        }
    }
    cells
}

fn place(column: &Column, row: &Row) -> Place {
    (
        column.wire.heading().to_owned(),
        column.to_string(),
        row.label.to_owned(),
    )
}

fn parts_of(document: &str) -> (&str, &str, &str) {
    let parts = document.split_once(BEGIN).and_then(|(before, rest)| {
        let (tables, after) = rest.split_once(END)?;
        Some((before, tables, after))
    });
    parts.expect("the document has a place for the matrix")
}

/// The first cell of a line and the others, if it is a line of a table.
fn entries_of(line: &str) -> Option<(&str, Vec<&str>)> {
    let line = line.strip_prefix("| ")?.strip_suffix(" |")?;
    let mut entries = line.split(" | ").map(str::trim);
    let row = entries.next()?;
    Some((row, entries.collect()))
}

fn written(matrix: &Matrix) -> String {
    let mut text = String::new();
    write_summary(&mut text, matrix);
    for wire in Wire::ALL {
        let _ = write!(text, "\n{HEADING}{}\n\n", wire.heading());
        write_table(&mut text, matrix, wire);
    }
    let _ = write!(text, "\n### The letters\n\n");
    let used = |reason: &Reason| {
        matrix
            .cells()
            .any(|(.., cell)| cell.reason == Some(*reason))
    };
    for reason in Reason::ALL.into_iter().filter(used) {
        let _ = writeln!(text, "* **{}**: {}", reason.letter(), reason.text());
    }
    text.push('\n');
    text
}

/// How much of it works, for each two sides.
fn write_summary(text: &mut String, matrix: &Matrix) {
    text.push('\n');
    write_line(text, "what works", Wire::ALL.iter().map(Wire::to_string));
    let _ = writeln!(text, "|{}", "---|".repeat(Wire::ALL.len() + 1));
    let pairs = matrix.columns.iter().map(|(column, _)| column);
    for pair in pairs.filter(|column| column.wire == Wire::ALL[0]) {
        let sums = Wire::ALL.map(|wire| sum(matrix, &Column { wire, ..*pair }));
        write_line(text, &pair.to_string(), sums.into_iter());
    }
}

fn sum(matrix: &Matrix, column: &Column) -> String {
    let cells = || {
        matrix
            .cells()
            .filter(|(of, ..)| *of == column)
            .map(|(.., cell)| cell)
    };
    let count = |is_counted: fn(&Cell) -> bool| cells().filter(|cell| is_counted(cell)).count();
    let mut sum = format!("{} of {}", count(Cell::works), cells().count());
    let in_part = count(|cell| matches!(cell.outcome, Outcome::AllBut(_)));
    let allowed = count(|cell| cell.outcome == Outcome::Allowed);
    for (count, what) in [(in_part, "in part"), (allowed, "**allowed** unseen")] {
        if count > 0 {
            let _ = write!(sum, "; {count} {what}");
        }
    }
    sum
}

fn write_table(text: &mut String, matrix: &Matrix, wire: Wire) {
    let columns: Vec<_> = matrix
        .columns
        .iter()
        .filter(|(column, _)| column.wire == wire)
        .collect();
    let names = columns.iter().map(|(column, _)| column.to_string());
    write_line(text, "", names);
    let _ = writeln!(text, "|{}", "---|".repeat(columns.len() + 1));
    let mut cells: Vec<_> = columns.iter().map(|(_, cells)| cells.iter()).collect();
    for (part, rows) in PARTS {
        write_line(
            text,
            &format!("**{part}**"),
            columns.iter().map(|_| String::new()),
        );
        for row in rows {
            let line = cells.iter_mut().filter_map(Iterator::next);
            write_line(text, row.label, line.map(Cell::to_string));
        }
    }
}

fn write_line(text: &mut String, first: &str, others: impl Iterator<Item = String>) {
    let _ = write!(text, "| {first} |");
    for other in others {
        let _ = write!(text, " {other} |");
    }
    text.push('\n');
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::matrix::rows;

    const EMPTY: &str = "before\n<!-- interop matrix: begin, written by scripts/interop-matrix -->\n\
                         <!-- interop matrix: end -->\nafter\n";

    fn all_good() -> Matrix {
        let good = || Cell {
            outcome: Outcome::Works,
            reason: None,
        };
        let columns = Column::between(&[]).into_iter();
        Matrix {
            columns: columns
                .map(|column| (column, rows().map(|_| good()).collect()))
                .collect(),
        }
    }

    #[test]
    fn what_is_written_is_read() {
        let document = replaced(EMPTY, &all_good());
        assert!(document.starts_with("before\n") && document.ends_with("-->\nafter\n"));
        assert_eq!(difference(&document, &all_good()), [""; 0]);
        assert_eq!(replaced(&document, &all_good()), document);
    }

    #[test]
    fn a_cell_that_changed_is_named() {
        let document = replaced(EMPTY, &all_good());
        let mut matrix = all_good();
        matrix.columns[1].1[0].outcome = Outcome::TimedOut;
        let expected =
            "JSON, tollgate → tollgate, request headers: every field: times out ?, documented: ✓";
        assert_eq!(difference(&document, &matrix), [expected]);
    }

    #[test]
    fn a_cell_that_is_not_documented_is_named() {
        let documented = cells_in(EMPTY).len();
        let different = difference(EMPTY, &all_good()).len();
        assert_eq!(
            (documented, different),
            (0, Wire::ALL.len() * rows().count())
        );
    }

    #[test]
    fn no_two_rows_are_called_the_same() {
        let labels: std::collections::BTreeSet<_> = rows().map(|row| row.label).collect();
        assert_eq!(labels.len(), rows().count());
    }
}
