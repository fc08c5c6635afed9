use crate::peer::Peer;
use serde_json::Value;
use std::path::Path;
use std::process::{Output, Stdio};
use std::time::Duration;
use tokio::process::Command;
use tokio::time::timeout;

/// The ways in which the published crate asks an agent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Via {
    /// `AgentPool`, which lacks some of the calls.
    Pool,
    /// `AgentClientV2Uds`, or `AgentClientV2` over gRPC: the one connection below it.
    Client,
    /// `AgentPool`, with an agent that has connected to it.
    Listener,
}

impl Via {
    /// Those that connect to the agent.
    pub const ALL: [Self; 2] = [Self::Pool, Self::Client];

    const fn as_str(self) -> &'static str {
        match self {
            Self::Pool => "pool",
            Self::Client => "client",
            Self::Listener => "listener",
        }
    }
}

/// Has a peer's client make every call there is, one after another, and gives the lines that it prints.
///
/// # Panics
///
/// If the client cannot be run to its end.
pub async fn run_client(peer: &Peer, via: Via, socket: &Path) -> Vec<Value> {
    let mut command = peer.command("client", "--connect", socket);
    command
        .args(["--via", via.as_str()])
        .stderr(Stdio::inherit());
    lines_of(&run(command).await)
}

/// What the client of one connection said and logged.
#[derive(Debug)]
pub struct ClientRun {
    /// The lines that it printed.
    pub lines: Vec<Value>,
    /// Pongs that arrived, which only its log tells.
    pub pongs: usize,
}

/// As [`run_client`], but makes the calls of different exchanges at once, so that those which are never
/// answered are waited for together, and each for no longer than `limit`.
///
/// # Panics
///
/// If the client cannot be run to its end.
pub async fn run_client_at_once(peer: &Peer, socket: &Path, limit: Duration) -> ClientRun {
    let mut command = peer.command("client", "--connect", socket);
    command
        .args(["--via", Via::Client.as_str(), "--at-once", "--log", "trace"])
        .args(["--timeout-ms", &limit.as_millis().to_string()])
        .stderr(Stdio::piped());
    let output = run(command).await;
    ClientRun {
        lines: lines_of(&output),
        pongs: String::from_utf8_lossy(&output.stderr)
            .matches("Received pong")
            .count(),
    }
}

/// Calls that belong together are made one after another, and each may use up its time.
const LONGEST_RUN: Duration = Duration::from_secs(45);

async fn run(mut command: Command) -> Output {
    let running = command.stdin(Stdio::null()).stdout(Stdio::piped()).output();
    timeout(LONGEST_RUN, running)
        .await
        .expect("the client ends in time")
        .expect("the client starts")
}

fn lines_of(output: &Output) -> Vec<Value> {
    let text = std::str::from_utf8(&output.stdout).expect("the client prints text");
    assert!(output.status.success(), "{}: {text}", output.status);
    let line = |line| serde_json::from_str(line).expect("the line is JSON");
    text.lines().map(line).collect()
}
