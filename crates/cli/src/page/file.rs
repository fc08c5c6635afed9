use super::page;
use crate::exit::UsageError;
use crate::recording::Recording;
use anyhow::Context;
use std::io::Write;
use std::path::{Path, PathBuf};
use tempfile::NamedTempFile;

/// Whether a run is drawn.
#[derive(clap::Args)]
pub(crate) struct PageOptions {
    /// Draw the run on one page of HTML; beside it goes the run as JSON, for a later --compare
    #[arg(long, value_name = "FILE.html")]
    report: Option<PathBuf>,
    /// Draw an earlier run beside it: the JSON that --report left, or what --json printed
    #[arg(long, value_name = "FILE.json", requires = "report")]
    compare: Option<PathBuf>,
}

/// Where a run's page will be. Until the run is over, what is there stays.
pub(crate) struct PageFile {
    html: Draft,
    json: Draft,
    earlier: Option<Recording>,
}

impl PageOptions {
    /// Makes sure before the run that its page can be written; `None` if there is to be none.
    pub(crate) fn open(&self) -> Result<Option<PageFile>, UsageError> {
        let Some(html) = &self.report else {
            return Ok(None);
        };
        let json = html.with_extension("json");
        if json == *html {
            let message = "the page needs another name; the run itself is kept as .json beside it";
            return Err(UsageError(format!("{}: {message}", html.display())));
        }
        Ok(Some(PageFile {
            earlier: self.compare.as_deref().map(Recording::read).transpose()?,
            html: Draft::of(html)?,
            json: Draft::of(&json)?,
        }))
    }
}

impl PageFile {
    /// Writes the page and, beside it, the run itself.
    pub(crate) fn write(self, run: &Recording) -> anyhow::Result<()> {
        let html = page(run, self.earlier.as_ref());
        self.json.finish(&serde_json::to_vec(run)?)?;
        self.html.finish(html.as_bytes())
    }
}

/// A file that gets its name once it is written.
struct Draft {
    file: NamedTempFile,
    path: PathBuf,
}

impl Draft {
    fn of(path: &Path) -> Result<Self, UsageError> {
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

    fn finish(mut self, content: &[u8]) -> anyhow::Result<()> {
        let written = self.file.write_all(content);
        written
            .and_then(|()| self.file.persist(&self.path).map_err(|error| error.error))
            .with_context(|| self.path.display().to_string())?;
        Ok(())
    }
}
