//! A process that a run has started, as seen from inside.

use super::Failure;
use std::fmt::Display;
use std::fs::OpenOptions;
use std::io::Write;
use std::path::{Path, PathBuf};
use tokio::io::AsyncReadExt;
use tokio::runtime::Runtime;
use tracing_subscriber::filter::LevelFilter;
use tracing_subscriber::fmt::MakeWriter;

/// Runs a process on this runtime, logging to its standard error.
pub(crate) fn run(
    directory: &Path,
    runtime: Runtime,
    served: impl Future<Output = Result<(), Failure>>,
) -> Result<(), Failure> {
    record_panics(directory);
    subscribe(std::io::stderr);
    let ended = runtime.block_on(served);
    ended.inspect_err(|error| record_failure(directory, error))
}

/// Waits until the parent process asks this one to stop.
pub(crate) async fn stdin_closed() {
    let mut received = [0];
    while let Ok(1..) = tokio::io::stdin().read(&mut received).await {}
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

fn failures(directory: &Path) -> PathBuf {
    directory.join("failures")
}

/// Lets this process write its panics to a file that is read at the end of the run: its log may
/// have no space left.
pub(crate) fn record_panics(directory: &Path) {
    let directory = directory.to_owned();
    std::panic::set_hook(Box::new(move |panic| record_failure(&directory, panic)));
}

fn record_failure(directory: &Path, failure: impl Display) {
    let file = OpenOptions::new()
        .append(true)
        .create(true)
        .open(failures(directory));
    // Ignored: nothing else can be done in a panic.
    let _ = file.and_then(|mut file| writeln!(file, "{failure}"));
}

/// Fails if a process has failed or panicked.
pub(crate) fn check_failures(directory: &Path) -> Result<(), Failure> {
    match std::fs::read_to_string(failures(directory)) {
        Ok(failures) => Err(format!("a process failed: {failures}").into()),
        Err(_) => Ok(()),
    }
}
