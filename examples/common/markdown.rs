//! Parts of a report in Markdown.

use super::Failure;
use std::process::Command;
use std::time::Duration;

/// Returns a line about the time that a run took, when it ended and the machine.
pub(crate) fn circumstances(took: Duration) -> Result<String, Failure> {
    let minutes = took.as_secs_f64() / 60.0;
    let processors = std::thread::available_parallelism()?;
    let finished = Command::new("date").args(["-u", "+%FT%TZ"]).output()?;
    let finished = String::from_utf8(finished.stdout)?;
    Ok(format!(
        "* {minutes:.1} minutes on {processors} processors, finished {finished}"
    ))
}

/// Writes the header of a table whose first columns are text and the others numbers.
pub(crate) fn write_header<'a>(
    out: &mut String,
    columns: impl Iterator<Item = &'a str>,
    texts: usize,
) {
    let columns: Vec<_> = columns.collect();
    write_row(out, columns.iter().map(|name| (*name).to_owned()));
    let alignment = |index| if index < texts { "---" } else { "--:" };
    write_row(
        out,
        (0..columns.len()).map(|index| alignment(index).to_owned()),
    );
}

pub(crate) fn write_row(out: &mut String, cells: impl Iterator<Item = String>) {
    out.push('|');
    for cell in cells {
        out.push_str(&format!(" {cell} |"));
    }
    out.push('\n');
}

/// Writes a number with a comma after each group of three digits.
pub(crate) fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut out = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}
