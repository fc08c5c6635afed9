//! An agent in a child process of its own, on a socket that nobody else has.

use crate::exit::AgentFailure;
use anyhow::Context;
use std::io::Write;
use std::process::Stdio;
use std::time::Duration;
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt, BufReader, Lines};
use tokio::process::{Child, ChildStderr, Command};

/// `tollgate agent`, started from this very executable.
pub(crate) struct ChildAgent {
    child: Child,
    endpoint: String,
    way: Way,
    /// Holds the socket; dropped after the child that listens there.
    _directory: TempDir,
}

/// Which side of an agent's socket connects to the other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Way {
    /// The agent listens.
    Forward,
    /// The agent connects, to whoever listens there.
    Reverse,
}

impl Way {
    const fn option(self) -> &'static str {
        match self {
            Self::Forward => "--listen",
            Self::Reverse => "--dial",
        }
    }

    /// How the agent's first line begins when it is at work.
    const fn first_words(self) -> &'static str {
        match self {
            Self::Forward => "listening on",
            Self::Reverse => "dialing",
        }
    }
}

impl ChildAgent {
    /// Starts an agent with these options besides where its socket is.
    pub(crate) fn spawn(way: Way, options: &[String]) -> anyhow::Result<Self> {
        let directory = tempfile::Builder::new()
            .prefix("tollgate-")
            .tempdir()
            .context("cannot make a directory for the agent's socket")?;
        let socket = directory.path().join("agent.sock");
        let endpoint = format!("unix:{}", socket.display());
        let executable = std::env::current_exe().context("cannot find this executable")?;
        let child = Command::new(executable)
            .args(["agent", way.option(), &endpoint])
            .args(options)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            // Ctrl-C goes to every process of a group; the agent has to last until we are done with it.
            .process_group(0)
            .kill_on_drop(true)
            .spawn()
            .context("cannot start the agent")?;
        Ok(Self {
            child,
            endpoint,
            way,
            _directory: directory,
        })
    }

    /// Where its socket is.
    pub(crate) fn endpoint(&self) -> &str {
        &self.endpoint
    }

    /// Waits until it listens, or looks for whoever listens.
    pub(crate) async fn ready(&mut self, timeout: Duration) -> Result<(), AgentFailure> {
        let Some(stderr) = self.child.stderr.take() else {
            return Ok(());
        };
        let mut lines = BufReader::new(stderr).lines();
        let failure = match tokio::time::timeout(timeout, first_line(&mut lines)).await {
            Ok(line) if line.starts_with(self.way.first_words()) => {
                tokio::spawn(pass_on(lines));
                return Ok(());
            }
            Ok(line) => AgentFailure::new(&self.endpoint, format_args!("it did not start: {line}")),
            Err(_) => AgentFailure::new(&self.endpoint, "timed out before it was at work"),
        };
        Err(failure)
    }

    /// Ends it and waits until it has.
    pub(crate) async fn stop(&mut self) {
        // An error means that it has ended already.
        let _ = self.child.kill().await;
    }
}

async fn first_line(lines: &mut Lines<BufReader<ChildStderr>>) -> String {
    match lines.next_line().await {
        Ok(Some(line)) => line,
        Ok(None) => "it ended without a word".to_owned(),
        Err(error) => error.to_string(),
    }
}

/// Shows what the agent has to say later; it would stop at a full pipe otherwise.
async fn pass_on(mut lines: Lines<BufReader<ChildStderr>>) {
    while let Ok(Some(line)) = lines.next_line().await {
        // Nothing is left to do when our own stderr is closed.
        let _ = writeln!(std::io::stderr(), "agent: {line}");
    }
}
