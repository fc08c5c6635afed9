//! Writing to stdout: a closed pipe does not panic, and text from an agent cannot control the
//! terminal.

use serde::Serialize;
use std::borrow::Cow;
use std::error::Error;
use std::fmt::{self, Display, Formatter};
use std::io::{self, Write};
use std::time::Duration;

/// Writes one line to stdout.
pub(crate) fn print_line(line: impl Display) -> Result<(), OutputError> {
    let mut stdout = io::stdout().lock();
    writeln!(stdout, "{line}")
        .and_then(|()| stdout.flush())
        .map_err(OutputError)
}

/// Writes one JSON object to stdout, on a line of its own.
pub(crate) fn print_json(value: &impl Serialize) -> anyhow::Result<()> {
    let text = serde_json::to_string(value)?;
    Ok(print_line(text)?)
}

/// Writing to stdout failed.
#[derive(Debug)]
pub(crate) struct OutputError(io::Error);

impl OutputError {
    /// Returns whether the reader of stdout closed the pipe, as `head` does. That is not a failure.
    pub(crate) fn is_closed(&self) -> bool {
        self.0.kind() == io::ErrorKind::BrokenPipe
    }
}

impl Display for OutputError {
    fn fmt(&self, formatter: &mut Formatter<'_>) -> fmt::Result {
        write!(formatter, "standard output: {}", self.0)
    }
}

impl Error for OutputError {}

/// Returns a duration in microseconds, rounded to a tenth.
pub(crate) fn micros(duration: Duration) -> f64 {
    (duration.as_secs_f64() * 1e7).round() / 10.0
}

/// Escapes the control characters of untrusted text, which becomes one line without terminal
/// escape sequences, read in the order in which it is written.
pub(crate) fn printable(text: &str) -> Cow<'_, str> {
    if !text.contains(is_control) {
        return Cow::Borrowed(text);
    }
    let mut escaped = String::with_capacity(text.len() + 8);
    for character in text.chars() {
        if is_control(character) {
            escaped.extend(character.escape_default());
        } else {
            escaped.push(character);
        }
    }
    Cow::Owned(escaped)
}

/// Returns whether a character controls the terminal or the direction of text.
fn is_control(character: char) -> bool {
    character.is_control()
        || matches!(
            character,
            '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}'
        )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn microseconds_are_rounded_to_a_tenth() {
        assert_eq!(micros(Duration::from_nanos(85_349)), 85.3);
        assert_eq!(micros(Duration::from_millis(5)), 5000.0);
    }

    #[test]
    fn control_characters_are_escaped() {
        assert_eq!(printable("plain – text"), "plain – text");
        assert_eq!(
            printable("two\nlines \u{1b}[31m"),
            "two\\nlines \\u{1b}[31m"
        );
        assert_eq!(printable("waf\u{202e}fed"), "waf\\u{202e}fed");
    }
}
