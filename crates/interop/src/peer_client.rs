use crate::PATIENCE;
use crate::peer::Peer;
use serde_json::Value;
use std::path::Path;
use std::process::Stdio;
use tokio::time::timeout;

/// The two ways in which the published crate asks an agent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Via {
    /// `AgentPool`, which lacks some of the calls.
    Pool,
    /// `AgentClientV2Uds`, the one connection below it.
    Client,
}

impl Via {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Pool, Self::Client];

    const fn as_str(self) -> &'static str {
        match self {
            Self::Pool => "pool",
            Self::Client => "client",
        }
    }
}

/// Has a peer's client make every call there is, and gives the lines that it prints.
///
/// # Panics
///
/// If the client cannot be run to its end.
pub async fn run_client(peer: &Peer, via: Via, socket: &Path) -> Vec<Value> {
    let mut command = peer.command("client", "--connect", socket);
    command
        .args(["--via", via.as_str()])
        .stdin(Stdio::null())
        .stderr(Stdio::inherit());
    let output = timeout(PATIENCE, command.output())
        .await
        .expect("the client ends in time")
        .expect("the client starts");
    let text = String::from_utf8(output.stdout).expect("the client prints text");
    assert!(output.status.success(), "{}: {text}", output.status);
    let line = |line| serde_json::from_str(line).expect("the line is JSON");
    text.lines().map(line).collect()
}
