//! The files that `--report` writes and `--compare` reads.

use super::page;
use crate::exit::UsageError;
use crate::recording::Recording;
use anyhow::Context;
use std::io::Write;
use std::path::{Path, PathBuf};
use tempfile::NamedTempFile;

/// Options for the HTML report of a run.
#[derive(clap::Args)]
pub(crate) struct PageOptions {
    /// Write an HTML report of the run, and its data as .json beside it for a later --compare
    #[arg(long, value_name = "FILE.html")]
    report: Option<PathBuf>,
    /// Show an earlier run in the same report: the .json file of --report, or the output of --json
    #[arg(long, value_name = "FILE.json", requires = "report")]
    compare: Option<PathBuf>,
}

/// The report files of a run, opened before the run. Existing files stay unchanged until
/// [`PageFile::write`].
pub(crate) struct PageFile {
    html: PendingFile,
    json: PendingFile,
    earlier: Option<Recording>,
}

impl PageOptions {
    /// Opens the files before the run, so that a bad path is reported early. Returns `None` without
    /// `--report`.
    pub(crate) fn open(&self) -> Result<Option<PageFile>, UsageError> {
        let Some(html) = &self.report else {
            return Ok(None);
        };
        let json = html.with_extension("json");
        if json == *html {
            let message = "choose another name for the report; \
                           the run's data is written to the same path ending in .json";
            return Err(UsageError(format!("{}: {message}", html.display())));
        }
        Ok(Some(PageFile {
            earlier: self.compare.as_deref().map(Recording::read).transpose()?,
            html: PendingFile::create(html)?,
            json: PendingFile::create(&json)?,
        }))
    }
}

impl PageFile {
    /// Writes the page and the run's data.
    pub(crate) fn write(self, run: &Recording) -> anyhow::Result<()> {
        let html = page(run, self.earlier.as_ref());
        self.json.commit(&serde_json::to_vec(run)?)?;
        self.html.commit(html.as_bytes())
    }
}

/// A temporary file that replaces its target once it is written completely.
struct PendingFile {
    file: NamedTempFile,
    path: PathBuf,
}

impl PendingFile {
    fn create(path: &Path) -> Result<Self, UsageError> {
        let folder = match path.parent() {
            Some(folder) if folder != Path::new("") => folder,
            _ => Path::new("."),
        };
        let file = tempfile::Builder::new()
            .permissions(std::os::unix::fs::PermissionsExt::from_mode(0o644))
            .tempfile_in(folder)
            .map_err(|error| UsageError(format!("{}: {error}", path.display())))?;
        let path = path.to_owned();
        Ok(Self { file, path })
    }

    fn commit(mut self, content: &[u8]) -> anyhow::Result<()> {
        let written = self.file.write_all(content);
        written
            .and_then(|()| self.file.persist(&self.path).map_err(|error| error.error))
            .with_context(|| self.path.display().to_string())?;
        Ok(())
    }
}
