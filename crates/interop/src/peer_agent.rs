use crate::PATIENCE;
use crate::peer::Peer;
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::net::TcpSocket;
use tokio::process::{Child, ChildStdout};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::time::timeout;
use tollgate_load_driver::reserve_port;

/// A peer's agent in a process of its own, on a socket of its own. Dropping it kills the process.
#[derive(Debug)]
pub struct PeerAgent {
    child: Child,
    lines: UnboundedReceiver<Value>,
    socket: PathBuf,
    _place: Option<Place>,
}

/// What keeps others from the place where it listens.
#[derive(Debug)]
enum Place {
    Folder { _folder: TempDir },
    Port { _port: TcpSocket },
}

/// An event that the agent says it was given.
#[derive(Debug, Clone, PartialEq)]
pub struct Logged {
    /// Which event, such as `request_headers`.
    pub event: String,
    /// What the agent understood.
    pub value: Value,
}

impl PeerAgent {
    /// Starts an agent that blocks bodies with [`BLOCKED_TEXT`](crate::BLOCKED_TEXT) in them, and waits
    /// until it listens.
    ///
    /// # Panics
    ///
    /// If it does not start.
    pub async fn start(peer: &Peer) -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let socket = folder.path().join("peer.sock");
        let place = Some(Place::Folder { _folder: folder });
        Self::run(peer, "agent", "--listen", socket, place).await
    }

    /// The same over gRPC, at a port of its own; [`PeerAgent::socket`] is its endpoint.
    ///
    /// # Panics
    ///
    /// If it does not start.
    pub async fn start_grpc(peer: &Peer) -> Self {
        let (port, address) = reserve_port().expect("a free port");
        let endpoint = format!("grpc://{address}").into();
        let place = Some(Place::Port { _port: port });
        Self::run(peer, "agent", "--listen", endpoint, place).await
    }

    /// Starts one that registers with the proxy that listens at `socket`, and waits until it has.
    ///
    /// # Panics
    ///
    /// If it does not.
    pub async fn dial(peer: &Peer, socket: &Path) -> Self {
        Self::run(peer, "dial", "--connect", socket.to_owned(), None).await
    }

    async fn run(
        peer: &Peer,
        role: &str,
        flag: &str,
        socket: PathBuf,
        place: Option<Place>,
    ) -> Self {
        let mut child = peer
            .command(role, flag, &socket)
            .args(["--block-body", crate::BLOCKED_TEXT])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .expect("the peer starts");
        let stdout = child.stdout.take().expect("its output is piped");
        let (sender, lines) = unbounded_channel();
        tokio::spawn(read_lines(stdout, sender));
        let mut agent = Self {
            child,
            lines,
            socket,
            _place: place,
        };
        let ready = agent.next_line().await;
        assert_eq!(ready["ready"], true, "{ready}");
        assert_eq!(ready["version"], peer.version().as_str(), "{ready}");
        agent
    }

    /// Where it listens.
    pub fn socket(&self) -> &Path {
        &self.socket
    }

    /// The next event that it was given.
    ///
    /// # Panics
    ///
    /// If there is none for longer than [`PATIENCE`], or if the agent has ended.
    pub async fn next_event(&mut self) -> Logged {
        Logged::from(self.next_line().await)
    }

    /// Kills the process and gives the events that nobody asked for.
    ///
    /// # Panics
    ///
    /// If the process does not end.
    pub async fn kill(mut self) -> Vec<Logged> {
        timeout(PATIENCE, self.child.kill())
            .await
            .expect("the agent ends in time")
            .expect("the agent is killed");
        let mut left = Vec::new();
        while let Some(line) = self.read_line().await {
            left.push(Logged::from(line));
        }
        left
    }

    async fn next_line(&mut self) -> Value {
        self.read_line().await.expect("the agent still runs")
    }

    /// `None` once the process has ended.
    async fn read_line(&mut self) -> Option<Value> {
        timeout(PATIENCE, self.lines.recv())
            .await
            .expect("the agent prints a line in time")
    }
}

/// Reads along with what the agent prints: it prints before it answers, and waits while the pipe is full.
async fn read_lines(stdout: ChildStdout, sender: UnboundedSender<Value>) {
    let mut lines = BufReader::new(stdout).lines();
    while let Some(line) = lines.next_line().await.expect("the output can be read") {
        let line = serde_json::from_str(&line).expect("the line is JSON");
        if sender.send(line).is_err() {
            break;
        }
    }
}

impl From<Value> for Logged {
    fn from(mut line: Value) -> Self {
        let event = line["event"].as_str().expect("the line names an event");
        Self {
            event: event.to_owned(),
            value: line["value"].take(),
        }
    }
}
