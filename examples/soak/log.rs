//! The log of the pool's process.

use crate::Failure;
use crate::process::{Log, open_log};
use std::fs::File;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use tracing_subscriber::filter::LevelFilter;
use tracing_subscriber::fmt::MakeWriter;

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
            file: open_log(directory, "pool", Log::File)?,
            full: open_log(directory, "pool", Log::FullDisk)?,
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

/// Writes what is logged in this process.
pub(crate) fn subscribe<W>(writer: W)
where
    W: for<'a> MakeWriter<'a> + Send + Sync + 'static,
{
    tracing_subscriber::fmt()
        .with_writer(writer)
        .with_max_level(LevelFilter::INFO)
        .with_ansi(false)
        // Otherwise a failure to write is printed to stderr, which panics if that fails too.
        .log_internal_errors(false)
        .init();
}
