//! Text of peers in the log: cut, and free of characters that change how a line is read.

use std::fmt::{self, Display, Write};

/// Maximum length of a message, in bytes.
pub(super) const MAX_MESSAGE: usize = 1024;

/// Maximum length of a field, in bytes.
const MAX_FIELD: usize = 256;

/// Returns the text of a message.
pub(crate) fn message(text: impl Display) -> String {
    cut(text, MAX_MESSAGE)
}

/// Returns the text of a field.
pub(crate) fn field(text: &dyn Display) -> String {
    cut(text, MAX_FIELD)
}

/// Returns at most `limit` bytes of a text, with an ellipsis if there are more. Stops formatting at
/// the limit, so a long text costs no more than a short one.
pub(super) fn cut(text: impl Display, limit: usize) -> String {
    let mut line = Line {
        text: String::new(),
        limit,
    };
    if write!(line, "{text}").is_err() {
        line.text.push('\u{2026}');
    }
    line.text
}

/// Takes text until the limit is reached, and fails then.
struct Line {
    text: String,
    limit: usize,
}

impl Write for Line {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        text.chars().try_for_each(|char| self.write_char(char))
    }

    fn write_char(&mut self, char: char) -> fmt::Result {
        let before = self.text.len();
        if is_deceptive(char) {
            self.text.extend(char.escape_default());
        } else {
            self.text.push(char);
        }
        if self.text.len() > self.limit {
            self.text.truncate(before);
            return Err(fmt::Error);
        }
        Ok(())
    }
}

/// Returns whether a character controls a terminal, ends a line, is invisible, or changes the
/// direction of the text around it.
fn is_deceptive(char: char) -> bool {
    char.is_control()
        || matches!(
            char,
            '\u{ad}'
                | '\u{61c}'
                | '\u{180e}'
                | '\u{200b}'..='\u{200f}'
                | '\u{2028}'..='\u{202e}'
                | '\u{2060}'..='\u{206f}'
                | '\u{feff}'
                | '\u{fff9}'..='\u{fffb}'
                | '\u{e0000}'..='\u{e007f}'
        )
}

#[cfg(test)]
#[path = "../../tests/unit/log/text.rs"]
mod tests;
