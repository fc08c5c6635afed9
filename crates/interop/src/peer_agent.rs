use crate::TIMEOUT;
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

/// A peer's agent in a separate process. Dropping it kills the process.
#[derive(Debug)]
pub struct PeerAgent {
    child: Child,
    lines: UnboundedReceiver<Value>,
    socket: PathBuf,
    _reservation: Option<Reservation>,
}

/// Reserves the address of the agent for as long as it exists.
#[derive(Debug)]
enum Reservation {
    Folder { _folder: TempDir },
    Port { _port: TcpSocket },
}

/// Event that the agent received, as it reports it.
#[derive(Debug, Clone, PartialEq)]
pub struct Logged {
    /// Name of the event, such as `request_headers`.
    pub event: String,
    /// Decoded event.
    pub value: Value,
}

impl PeerAgent {
    /// Starts an agent that blocks bodies with [`BLOCKED_TEXT`](crate::BLOCKED_TEXT), and waits
    /// until it listens.
    ///
    /// # Panics
    ///
    /// If the agent does not start.
    pub async fn start(peer: &Peer) -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let socket = folder.path().join("peer.sock");
        let reservation = Some(Reservation::Folder { _folder: folder });
        Self::run(peer, "agent", "--listen", socket, reservation).await
    }

    /// Like [`start`](Self::start), but over gRPC at a reserved port. [`PeerAgent::socket`] returns
    /// its endpoint.
    ///
    /// # Panics
    ///
    /// If the agent does not start.
    pub async fn start_grpc(peer: &Peer) -> Self {
        let (port, address) = reserve_port().expect("a free port");
        let endpoint = format!("grpc://{address}").into();
        let reservation = Some(Reservation::Port { _port: port });
        Self::run(peer, "agent", "--listen", endpoint, reservation).await
    }

    /// Starts an agent that registers with the proxy at `socket`, and waits until it is registered.
    ///
    /// # Panics
    ///
    /// If the agent is not registered in time.
    pub async fn dial(peer: &Peer, socket: &Path) -> Self {
        Self::run(peer, "dial", "--connect", socket.to_owned(), None).await
    }

    async fn run(
        peer: &Peer,
        role: &str,
        flag: &str,
        socket: PathBuf,
        reservation: Option<Reservation>,
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
            _reservation: reservation,
        };
        let ready = agent.next_line().await;
        assert_eq!(ready["ready"], true, "{ready}");
        assert_eq!(ready["version"], peer.version().of_package(), "{ready}");
        agent
    }

    /// Returns the path or endpoint at which the agent listens.
    pub fn socket(&self) -> &Path {
        &self.socket
    }

    /// Waits for the next event that the agent reports.
    ///
    /// # Panics
    ///
    /// If there is none within [`TIMEOUT`], or if the agent has ended.
    pub async fn next_event(&mut self) -> Logged {
        Logged::from(self.next_line().await)
    }

    /// Kills the process and returns the events that were not read yet.
    ///
    /// # Panics
    ///
    /// If the process does not end.
    pub async fn kill(mut self) -> Vec<Logged> {
        timeout(TIMEOUT, self.child.kill())
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
        self.read_line().await.expect("the agent is still running")
    }

    /// Returns the next line, or `None` once the process has ended.
    async fn read_line(&mut self) -> Option<Value> {
        timeout(TIMEOUT, self.lines.recv())
            .await
            .expect("the agent prints a line in time")
    }
}

/// Reads the agent's output without pause: the agent prints before it answers, and blocks while the
/// pipe is full.
async fn read_lines(stdout: ChildStdout, sender: UnboundedSender<Value>) {
    let mut lines = BufReader::new(stdout).lines();
    while let Some(line) = lines.next_line().await.expect("the output is readable") {
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
