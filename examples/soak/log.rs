//! The logs of processes.

use crate::Failure;
use crate::common::child::subscribe;
use crate::common::process::open_log;
use std::fs::File;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use tracing_subscriber::fmt::MakeWriter;

/// File that a process logs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Log {
    File,
    /// A device that has no space left.
    FullDisk,
}

impl Log {
    /// Opens the log of a process.
    pub(crate) fn open(self, directory: &Path, name: &str) -> io::Result<File> {
        match self {
            Self::File => open_log(&directory.join(format!("{name}.log"))),
            Self::FullDisk => open_log(Path::new("/dev/full")),
        }
    }
}

/// Log that goes to a file, or to a device without space.
#[derive(Debug, Clone)]
pub(crate) struct PoolLog(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    file: File,
    full: File,
    is_full: AtomicBool,
}

impl PoolLog {
    pub(crate) fn start(directory: &Path) -> Result<Self, Failure> {
        let log = Self(Arc::new(Inner {
            file: Log::File.open(directory, "pool")?,
            full: Log::FullDisk.open(directory, "pool")?,
            is_full: AtomicBool::new(false),
        }));
        subscribe(log.clone());
        Ok(log)
    }

    pub(crate) fn switch_to(&self, log: Log) {
        let is_full = log == Log::FullDisk;
        self.0.is_full.store(is_full, Ordering::Relaxed);
    }
}

impl<'a> MakeWriter<'a> for PoolLog {
    type Writer = &'a File;

    fn make_writer(&'a self) -> &'a File {
        if self.0.is_full.load(Ordering::Relaxed) {
            &self.0.full
        } else {
            &self.0.file
        }
    }
}
