//! The clock of a process: the system's, moved by the library `faketime`.
//!
//! Only the time of day is moved. The monotonic clock, which durations are measured with, is not.

use crate::victim::pause;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::{fs, io};

/// File that the library reads the offset from.
const FILE: &str = "FAKETIME_TIMESTAMP_FILE";

/// Offset of one process's clock.
#[derive(Debug, Clone)]
pub(crate) struct Clock(PathBuf);

impl Clock {
    pub(crate) fn of(directory: &Path, id: &str) -> Self {
        Self(directory.join(format!("{id}.clock")))
    }

    /// Lets a process that is about to start use this clock, if the library is installed.
    pub(crate) fn apply_to(&self, command: &mut Command) -> io::Result<()> {
        let Some(library) = library() else {
            return Ok(());
        };
        self.set("+0")?;
        command
            .env("LD_PRELOAD", library)
            .env(FILE, &self.0)
            .env("FAKETIME_DONT_FAKE_MONOTONIC", "1")
            .env("FAKETIME_CACHE_DURATION", "1");
        Ok(())
    }

    /// Moves the clock by up to 400 days, within two seconds.
    pub(crate) fn jump(&self) -> io::Result<()> {
        let days = fastrand::u32(1..=400);
        let sign = fastrand::choice(["+", "-"]).unwrap_or_default();
        self.set(&format!("{sign}{days}d"))
    }

    pub(crate) fn restore(&self) -> io::Result<()> {
        self.set("+0")
    }

    fn set(&self, offset: &str) -> io::Result<()> {
        // The library must not read half a line.
        let new = self.0.with_extension("new");
        fs::write(&new, offset)?;
        fs::rename(new, &self.0)
    }
}

/// Waits until clocks that were moved have been seen to be: the library reads an offset again when
/// the seconds that it has read before differ by more than one.
pub(crate) async fn stay() {
    pause(2_500..4_000).await;
}

/// Returns the path of the library, if it is installed.
pub(crate) fn library() -> Option<PathBuf> {
    let folders = fs::read_dir("/usr/lib").ok()?.filter_map(Result::ok);
    let candidates = folders.map(|folder| folder.path().join("faketime/libfaketimeMT.so.1"));
    candidates.into_iter().find(|library| library.exists())
}

/// Returns `true` if a clock was applied to this process.
pub(crate) fn is_applied() -> bool {
    std::env::var_os(FILE).is_some()
}
