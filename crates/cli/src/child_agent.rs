//! An agent in a child process, on a socket in a temporary directory.

use crate::exit::AgentFailure;
use anyhow::Context;
use std::io::Write;
use std::process::Stdio;
use std::time::Duration;
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt, BufReader, Lines};
use tokio::process::{Child, ChildStderr, Command};

/// `tollgate agent` in a child process of the same executable.
pub(crate) struct ChildAgent {
    child: Child,
    endpoint: String,
    direction: Direction,
    /// Contains the socket. Declared after `child`, so that it is removed after the child is
    /// killed.
    _directory: TempDir,
}

/// The side that opens the connections.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Direction {
    /// The agent listens and the proxy connects.
    Forward,
    /// The proxy listens and the agent dials it.
    Reverse,
}

impl Direction {
    const fn option(self) -> &'static str {
        match self {
            Self::Forward => "--listen",
            Self::Reverse => "--dial",
        }
    }

    /// Returns the beginning of the line that the agent prints once it is ready.
    const fn ready_prefix(self) -> &'static str {
        match self {
            Self::Forward => "listening on",
            Self::Reverse => "dialing",
        }
    }
}

impl ChildAgent {
    /// Starts an agent with these options and an endpoint in a new temporary directory.
    pub(crate) fn spawn(direction: Direction, options: &[String]) -> anyhow::Result<Self> {
        let directory = tempfile::Builder::new()
            .prefix("tollgate-")
            .tempdir()
            .context("cannot create a temporary directory for the agent's socket")?;
        let socket = directory.path().join("agent.sock");
        let endpoint = format!("unix:{}", socket.display());
        let executable =
            std::env::current_exe().context("cannot find the path of this executable")?;
        let child = Command::new(executable)
            .args(["agent", direction.option(), &endpoint])
            .args(options)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            // Ctrl-C signals the whole process group; the agent must outlive the run.
            .process_group(0)
            .kill_on_drop(true)
            .spawn()
            .context("cannot start the agent process")?;
        Ok(Self {
            child,
            endpoint,
            direction,
            _directory: directory,
        })
    }

    /// Returns the endpoint that the agent listens on or dials.
    pub(crate) fn endpoint(&self) -> &str {
        &self.endpoint
    }

    /// Waits until the agent reports that it listens or dials.
    pub(crate) async fn ready(&mut self, timeout: Duration) -> Result<(), AgentFailure> {
        let Some(stderr) = self.child.stderr.take() else {
            return Ok(());
        };
        let mut lines = BufReader::new(stderr).lines();
        let failure = match tokio::time::timeout(timeout, first_line(&mut lines)).await {
            Ok(line) if line.starts_with(self.direction.ready_prefix()) => {
                tokio::spawn(forward_output(lines));
                return Ok(());
            }
            Ok(line) => AgentFailure::new(
                &self.endpoint,
                format_args!("the agent did not start: {line}"),
            ),
            Err(_) => AgentFailure::new(&self.endpoint, "timed out waiting for the agent to start"),
        };
        Err(failure)
    }

    /// Kills the agent and waits for its exit.
    pub(crate) async fn stop(&mut self) {
        // An error means that the agent has exited already.
        let _ = self.child.kill().await;
    }
}

async fn first_line(lines: &mut Lines<BufReader<ChildStderr>>) -> String {
    match lines.next_line().await {
        Ok(Some(line)) => line,
        Ok(None) => "it exited without an error message".to_owned(),
        Err(error) => error.to_string(),
    }
}

/// Copies the agent's further output to stderr. Unread, it would fill the pipe and block the agent.
async fn forward_output(mut lines: Lines<BufReader<ChildStderr>>) {
    while let Ok(Some(line)) = lines.next_line().await {
        // Ignored: our own stderr may be closed.
        let _ = writeln!(std::io::stderr(), "agent: {line}");
    }
}
