//! Writing to stdout without panicking when nobody reads it, and without letting an agent write to
//! the terminal.

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

/// Stdout does not take what is written to it.
#[derive(Debug)]
pub(crate) struct OutputError(io::Error);

impl OutputError {
    /// Whether whoever read our stdout went away, as `head` does; no fault of anyone.
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

/// Microseconds to a tenth; more digits would only be noise.
pub(crate) fn micros(duration: Duration) -> f64 {
    (duration.as_secs_f64() * 1e7).round() / 10.0
}

/// Text from elsewhere with its control characters spelt out: one line, and no escape sequences.
pub(crate) fn printable(text: &str) -> Cow<'_, str> {
    if !text.contains(char::is_control) {
        return Cow::Borrowed(text);
    }
    let mut spelt = String::with_capacity(text.len() + 8);
    for character in text.chars() {
        if character.is_control() {
            spelt.extend(character.escape_default());
        } else {
            spelt.push(character);
        }
    }
    Cow::Owned(spelt)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn microseconds_have_one_digit_after_the_point() {
        assert_eq!(micros(Duration::from_nanos(85_349)), 85.3);
        assert_eq!(micros(Duration::from_millis(5)), 5000.0);
    }

    #[test]
    fn control_characters_are_spelt_out() {
        assert_eq!(printable("plain – text"), "plain – text");
        assert_eq!(
            printable("two\nlines \u{1b}[31m"),
            "two\\nlines \\u{1b}[31m"
        );
    }
}
