use crate::peer::Peer;
use serde_json::Value;
use std::path::Path;
use std::process::{Output, Stdio};
use std::time::Duration;
use tokio::process::Command;
use tokio::time::timeout;

/// Client of `zentinel-agent-protocol` that calls an agent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Via {
    /// `AgentPool`, which does not support all calls.
    Pool,
    /// A single connection: `AgentClientV2Uds`, or `AgentClientV2` over gRPC.
    Client,
    /// `AgentPool` with an agent that connected to it.
    Listener,
}

impl Via {
    /// The clients that connect to the agent.
    pub const ALL: [Self; 2] = [Self::Pool, Self::Client];

    const fn as_str(self) -> &'static str {
        match self {
            Self::Pool => "pool",
            Self::Client => "client",
            Self::Listener => "listener",
        }
    }
}

/// Lets a peer's client make every kind of call, one after another. Returns the lines it prints.
///
/// # Panics
///
/// If the client fails or does not end in time.
pub async fn run_client(peer: &Peer, via: Via, socket: &Path) -> Vec<Value> {
    let mut command = peer.command("client", "--connect", socket);
    command
        .args(["--via", via.as_str()])
        .stderr(Stdio::inherit());
    lines_of(&run(command).await)
}

/// Lets a peer's client give the agent settings and make one call, that of a step with this name.
/// Returns the lines it prints; if the agent does not accept the settings, the first is a failed
/// `connect` and the only one.
///
/// # Panics
///
/// If the client does not end in time.
pub async fn run_client_with_settings(
    peer: &Peer,
    via: Via,
    socket: &Path,
    settings: &Value,
    step: &str,
) -> Vec<Value> {
    let mut command = peer.command("client", "--connect", socket);
    command
        .args(["--via", via.as_str(), "--only", step])
        .args(["--settings", &settings.to_string()])
        .stderr(Stdio::inherit());
    printed_lines(&run(command).await)
}

/// Output of a client with one connection.
#[derive(Debug)]
pub struct ClientRun {
    /// Lines that the client printed.
    pub lines: Vec<Value>,
    /// Number of pongs that arrived, taken from the log.
    pub pongs: usize,
}

/// Like [`run_client`], but makes the calls of different exchanges at the same time, each with the
/// timeout `limit`. Calls that are never answered then time out together.
///
/// # Panics
///
/// If the client fails or does not end in time.
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

/// Limit of a run. Calls of one exchange are made one after another, and each may time out.
const LONGEST_RUN: Duration = Duration::from_secs(45);

async fn run(mut command: Command) -> Output {
    let running = command.stdin(Stdio::null()).stdout(Stdio::piped()).output();
    timeout(LONGEST_RUN, running)
        .await
        .expect("the client ends in time")
        .expect("the client starts")
}

fn lines_of(output: &Output) -> Vec<Value> {
    let lines = printed_lines(output);
    assert!(output.status.success(), "{}: {lines:?}", output.status);
    lines
}

fn printed_lines(output: &Output) -> Vec<Value> {
    let text = std::str::from_utf8(&output.stdout).expect("the client prints text");
    let line = |line| serde_json::from_str(line).expect("the line is JSON");
    text.lines().map(line).collect()
}
