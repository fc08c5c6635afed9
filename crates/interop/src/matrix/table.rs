//! Writes the tables of docs/interop.md and compares them with a run.

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

/// Maximum width of a line of text.
const MAX_COLUMNS: usize = 100;

/// Start of the heading of each table.
const HEADING: &str = "## ";

/// Position of a cell: the heading of the table, the column and the row.
type CellKey = (String, String, String);

/// Returns the document with this matrix instead of its present one.
///
/// # Panics
///
/// If the markers of the matrix are missing.
pub fn replaced(document: &str, matrix: &Matrix) -> String {
    let (before, _, after) = parts_of(document);
    format!("{before}{BEGIN}{}{END}{after}", tables(matrix))
}

/// Returns a line for each cell of the run that differs from the document.
///
/// # Panics
///
/// If the markers of the matrix are missing.
pub fn difference(document: &str, matrix: &Matrix) -> Vec<String> {
    let documented = cells_in(document);
    let differing = matrix.cells().filter_map(|(column, row, cell)| {
        let found = cell.to_string();
        let expected = documented.get(&key(column, row));
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

fn cells_in(document: &str) -> BTreeMap<CellKey, String> {
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
            let key = (table.to_owned(), (*column).to_owned(), row.to_owned());
            cells.insert(key, entry.to_owned());
        }
    }
    cells
}

fn key(column: &Column, row: &Row) -> CellKey {
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
    parts.expect("the document has the markers of the matrix")
}

/// Returns the first cell of a line and the others, if it is a row of a table.
fn entries_of(line: &str) -> Option<(&str, Vec<&str>)> {
    let line = line.strip_prefix("| ")?.strip_suffix(" |")?;
    let mut entries = line.split(" | ").map(str::trim);
    let row = entries.next()?;
    Some((row, entries.collect()))
}

fn tables(matrix: &Matrix) -> String {
    let mut text = String::new();
    write_summary(&mut text, matrix);
    for wire in Wire::ALL {
        let _ = write!(text, "\n{HEADING}{}\n\n", wire.heading());
        write_table(&mut text, matrix, wire);
    }
    let _ = write!(text, "\n{HEADING}Reasons\n\n");
    let used = |reason: &Reason| {
        matrix
            .cells()
            .any(|(.., cell)| cell.reason == Some(*reason))
    };
    for reason in Reason::ALL.into_iter().filter(used) {
        write_item(
            &mut text,
            &format!("**{}**: {}", reason.letter(), reason.text()),
        );
    }
    text.push('\n');
    text
}

/// Writes how many messages work, for each pair of implementations.
fn write_summary(text: &mut String, matrix: &Matrix) {
    text.push('\n');
    write_line(
        text,
        "messages that work",
        Wire::ALL.iter().map(Wire::to_string),
    );
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
    for (count, what) in [(in_part, "in part"), (allowed, "**allowed**")] {
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

/// Writes an item of a list, broken into lines.
fn write_item(text: &mut String, item: &str) {
    let mut column = 1;
    text.push('*');
    for word in item.split(' ') {
        let len = word.chars().count();
        if column + 1 + len > MAX_COLUMNS {
            text.push_str("\n ");
            column = 1;
        }
        text.push(' ');
        text.push_str(word);
        column += 1 + len;
    }
    text.push('\n');
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

    fn all_working() -> Matrix {
        let works = || Cell {
            outcome: Outcome::Works,
            reason: None,
        };
        let columns = Column::between(&[]).into_iter();
        Matrix {
            columns: columns
                .map(|column| (column, rows().map(|_| works()).collect()))
                .collect(),
        }
    }

    #[test]
    fn written_matrix_is_read_back() {
        let document = replaced(EMPTY, &all_working());
        assert!(document.starts_with("before\n") && document.ends_with("-->\nafter\n"));
        assert_eq!(difference(&document, &all_working()), [""; 0]);
        assert_eq!(replaced(&document, &all_working()), document);
    }

    #[test]
    fn changed_cell_is_named() {
        let document = replaced(EMPTY, &all_working());
        let mut matrix = all_working();
        matrix.columns[1].1[0].outcome = Outcome::TimedOut;
        let expected =
            "JSON, tollgate → tollgate, request headers: every field: times out ?, documented: ✓";
        assert_eq!(difference(&document, &matrix), [expected]);
    }

    #[test]
    fn undocumented_cell_is_named() {
        let documented = cells_in(EMPTY).len();
        let different = difference(EMPTY, &all_working()).len();
        assert_eq!(
            (documented, different),
            (0, Wire::ALL.len() * rows().count())
        );
    }

    #[test]
    fn long_items_are_broken_into_lines() {
        let mut text = String::new();
        write_item(&mut text, &"word ".repeat(50));
        assert!(text.starts_with("* word ") && text.contains("\n  word "));
        assert!(text.lines().all(|line| line.len() <= MAX_COLUMNS));
    }

    #[test]
    fn rows_have_distinct_labels() {
        let labels: std::collections::BTreeSet<_> = rows().map(|row| row.label).collect();
        assert_eq!(labels.len(), rows().count());
    }
}
