//! Labels in the Prometheus text format.

use std::fmt::Write;

/// Converts labels to text, sorted by name: equal sets of labels have equal texts.
pub(in crate::metrics) fn write_labels<'a>(
    labels: impl IntoIterator<Item = (&'a str, &'a str)>,
) -> String {
    let mut labels: Vec<_> = labels.into_iter().collect();
    labels.sort_unstable();
    let mut text = String::new();
    for (name, value) in labels {
        let comma = if text.is_empty() { "" } else { "," };
        let _ = write!(text, "{comma}{name}=\"{}\"", escape_label(value));
    }
    text
}

fn escape_label(value: &str) -> String {
    escape_help(value).replace('"', "\\\"")
}

pub(super) fn escape_help(help: &str) -> String {
    help.replace('\\', "\\\\").replace('\n', "\\n")
}
