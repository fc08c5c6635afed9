//! The processes of a run, apart from the pool's own.

use crate::Failure;
use crate::clock::Clock;
use crate::links::{Address, Link};
use std::fmt::Display;
use std::fs::{File, OpenOptions};
use std::io::{self, BufRead, BufReader, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};
use tokio::time::{sleep, timeout};

/// Time limit for a process to start, and for one to stop.
const TIME_LIMIT: Duration = Duration::from_secs(120);

/// File that a process logs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Log {
    File,
    /// A device that has no space left.
    FullDisk,
}

/// A process, killed when dropped.
#[derive(Debug)]
pub(crate) struct Process {
    child: Child,
    stdin: Mutex<Option<ChildStdin>>,
    /// Carries what the process prints after it is ready.
    stdout: Option<BufReader<ChildStdout>>,
}

impl Process {
    /// Starts an agent. Returns once it listens or, if it dials, once it is connected.
    pub(crate) async fn agent(
        directory: &Path,
        id: &str,
        link: Link,
        address: &Address,
        log: Log,
    ) -> Result<Self, Failure> {
        let mut command = command(directory, id, log)?;
        command.arg("agent").arg(directory);
        command.args([link.name, id, &address.to_string()]);
        Clock::of(directory, id).apply_to(&mut command)?;
        Self::start(command, id).await
    }

    pub(crate) async fn faulty_agent(
        directory: &Path,
        id: &str,
        socket: &Path,
    ) -> Result<Self, Failure> {
        let mut command = command(directory, id, Log::File)?;
        command.arg("faulty-agent").arg(directory).arg(socket);
        Self::start(command, id).await
    }

    pub(crate) async fn relay(
        directory: &Path,
        id: &str,
        listen: &Address,
        target: &Address,
    ) -> Result<Self, Failure> {
        let mut command = command(directory, &format!("{id}-relay"), Log::File)?;
        command.arg("relay").arg(directory);
        command.args([listen.to_string(), target.to_string()]);
        Self::start(command, id).await
    }

    async fn start(mut command: Command, id: &str) -> Result<Self, Failure> {
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

    /// Sends SIGKILL and waits until the process has ended, so that its address is free.
    pub(crate) fn kill(&mut self) -> Result<(), Failure> {
        self.child.kill()?;
        self.child.wait()?;
        Ok(())
    }

    pub(crate) fn signal(&self, signal: &str) -> Result<(), Failure> {
        let pid = self.child.id().to_string();
        let sent = Command::new("kill").args(["-s", signal, &pid]).status()?;
        if sent.success() {
            return Ok(());
        }
        Err(format!("process {pid} cannot be sent SIG{signal}").into())
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

fn command(directory: &Path, name: &str, log: Log) -> Result<Command, Failure> {
    // Is the running program even if a build has replaced its file.
    let mut command = Command::new("/proc/self/exe");
    command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(open_log(directory, name, log)?);
    Ok(command)
}

pub(crate) fn open_log(directory: &Path, name: &str, log: Log) -> Result<File, Failure> {
    let path = match log {
        Log::File => directory.join(format!("{name}.log")),
        Log::FullDisk => "/dev/full".into(),
    };
    Ok(OpenOptions::new().append(true).create(true).open(path)?)
}

fn first_line(stdout: ChildStdout) -> io::Result<(String, BufReader<ChildStdout>)> {
    let mut stdout = BufReader::new(stdout);
    let mut line = String::new();
    stdout.read_line(&mut line)?;
    Ok((line, stdout))
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

pub(crate) fn record_failure(directory: &Path, failure: impl Display) {
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
