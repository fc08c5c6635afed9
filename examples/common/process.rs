//! The processes that a run starts.

use super::Failure;
use std::fs::{File, OpenOptions};
use std::io::{self, BufRead, BufReader, Read, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};
use tokio::time::{sleep, timeout};

/// Time limit for a process to start, and for one to stop.
const TIME_LIMIT: Duration = Duration::from_secs(120);

/// A process, killed when dropped.
#[derive(Debug)]
pub(crate) struct Process {
    pub(crate) child: Child,
    stdin: Mutex<Option<ChildStdin>>,
    /// Carries what the process prints after it is ready.
    stdout: Option<BufReader<ChildStdout>>,
}

impl Process {
    /// Starts a process. Returns once it has printed that it is ready.
    pub(crate) async fn start(mut command: Command, id: &str) -> Result<Self, Failure> {
        let mut child = command.spawn()?;
        let stdin = Mutex::new(child.stdin.take());
        let stdout = child.stdout.take().ok_or("no standard output")?;
        let mut process = Self {
            child,
            stdin,
            stdout: None,
        };
        let first = tokio::task::spawn_blocking(|| first_line(stdout));
        match timeout(TIME_LIMIT, first).await {
            Ok(Ok(Ok((line, stdout)))) if line == "ready\n" => {
                process.stdout = Some(stdout);
                Ok(process)
            }
            Ok(first) => Err(format!("{id}: ended at its start: {first:?}").into()),
            Err(_) => Err(format!("{id}: not ready after {TIME_LIMIT:?}").into()),
        }
    }

    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// Sends a line to the standard input of the process.
    pub(crate) fn command(&self, command: &str) -> Result<(), Failure> {
        let mut stdin = self.stdin.lock().unwrap_or_else(PoisonError::into_inner);
        let stdin = stdin.as_mut().ok_or("no standard input")?;
        Ok(writeln!(stdin, "{command}")?)
    }

    /// Closes the standard input, upon which the process stops, and waits for its end. Returns what
    /// it has printed.
    pub(crate) async fn stop(mut self) -> Result<String, Failure> {
        drop(self.stdin.lock().map(|mut stdin| stdin.take()));
        let stopped = Instant::now();
        let status = loop {
            match self.child.try_wait()? {
                Some(status) => break status,
                None if stopped.elapsed() > TIME_LIMIT => {
                    return Err(format!("process {} does not stop", self.id()).into());
                }
                None => sleep(Duration::from_millis(10)).await,
            }
        };
        if !status.success() {
            return Err(format!("a process ended with {status}").into());
        }
        let mut printed = String::new();
        if let Some(stdout) = &mut self.stdout {
            stdout.read_to_string(&mut printed)?;
        }
        Ok(printed)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // Ignored: the process may have exited already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Returns a command that starts this program again, with its standard error in this file.
pub(crate) fn command(log: File) -> Command {
    // Is the running program even if a build has replaced its file.
    let mut command = Command::new("/proc/self/exe");
    command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(log);
    command
}

pub(crate) fn open_log(path: &Path) -> io::Result<File> {
    OpenOptions::new().append(true).create(true).open(path)
}

fn first_line(stdout: ChildStdout) -> io::Result<(String, BufReader<ChildStdout>)> {
    let mut stdout = BufReader::new(stdout);
    let mut line = String::new();
    stdout.read_line(&mut line)?;
    Ok((line, stdout))
}
