//! Reasons why a settings file is refused.

use std::fmt;
use std::ops::Range;
use std::path::{Path, PathBuf};

/// Reason why a settings file is refused.
///
/// The text is `FILE:LINE:COLUMN: REASON`, without the parts that are not known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SettingsError {
    file: Option<PathBuf>,
    place: Option<Place>,
    reason: String,
}

/// A place in a file. Both numbers begin at 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Place {
    line: usize,
    column: usize,
}

impl SettingsError {
    pub(crate) fn new(reason: impl Into<String>) -> Self {
        Self {
            file: None,
            place: None,
            reason: reason.into(),
        }
    }

    pub(crate) fn of_toml(error: &toml::de::Error, text: &str) -> Self {
        Self::new(error.message()).at(error.span(), text)
    }

    /// Adds the place where a part of the text begins.
    pub(crate) fn at(mut self, span: Option<Range<usize>>, text: &str) -> Self {
        let before = span.and_then(|span| text.get(..span.start));
        self.place = before.map(|before| Place {
            line: before.matches('\n').count() + 1,
            column: before
                .rsplit('\n')
                .next()
                .unwrap_or_default()
                .chars()
                .count()
                + 1,
        });
        self
    }

    pub(crate) fn in_file(mut self, file: &Path) -> Self {
        self.file = Some(file.to_owned());
        self
    }

    /// Returns the line that is at fault, counted from 1, if it is known.
    pub fn line(&self) -> Option<usize> {
        self.place.map(|place| place.line)
    }
}

impl fmt::Display for SettingsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(file) = &self.file {
            write!(f, "{}:", file.display())?;
        }
        if let Some(Place { line, column }) = self.place {
            write!(f, "{line}:{column}:")?;
        }
        if self.file.is_some() || self.place.is_some() {
            f.write_str(" ")?;
        }
        f.write_str(&self.reason)
    }
}

impl std::error::Error for SettingsError {}
