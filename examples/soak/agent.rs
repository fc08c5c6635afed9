//! An agent that answers every event with its checksum, and the process that runs it.

use crate::Failure;
use crate::account::{CHECKSUM, checksum};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};
use tokio::io::{AsyncBufReadExt, BufReader};
use tollgate::{
    AgentCapabilities, AgentControl, AgentHandler, AgentResponse, BodyChunk, EventType,
    FlowControlAction, HeaderOp, HealthStatus, RequestComplete, RequestHeadersView,
    ResponseHeadersView, UdsAgentServer,
};

/// Serves until standard input is closed, and executes the commands read from it.
pub(crate) async fn serve(socket: &Path) -> Result<(), Failure> {
    let server = UdsAgentServer::new(socket, Echo);
    let control = server.control();
    let bound = server.bind().await?;
    let execute_commands = async move {
        let mut lines = BufReader::new(tokio::io::stdin()).lines();
        while let Ok(Some(line)) = lines.next_line().await {
            execute(&control, &line);
        }
    };
    Ok(bound.serve_until(execute_commands).await?)
}

fn execute(control: &AgentControl, command: &str) {
    match command {
        "pause" => control.flow_control(FlowControlAction::Pause),
        "resume" => control.flow_control(FlowControlAction::Resume),
        "degraded" => control.report_health(HealthStatus::degraded("echo", Vec::new(), 2.0)),
        "healthy" => control.report_health(HealthStatus::healthy("echo")),
        other => eprintln!("unknown command {other:?}"),
    }
}

struct Echo;

fn echo(correlation_id: &str, data: &[u8]) -> AgentResponse {
    AgentResponse::default_allow().add_request_header(HeaderOp::Set {
        name: CHECKSUM.to_owned(),
        value: format!("{:x}", checksum(correlation_id, data)),
    })
}

impl AgentHandler for Echo {
    fn capabilities(&self) -> AgentCapabilities {
        let capabilities = AgentCapabilities::new("echo", "Echoes checksums", "1.0.0");
        EventType::ALL
            .into_iter()
            .fold(capabilities, AgentCapabilities::with_event)
    }

    async fn on_request_headers(&self, event: RequestHeadersView<'_>) -> AgentResponse {
        if let Some(delay) = event.uri.strip_prefix("/wait/") {
            let milliseconds = delay.parse().unwrap_or(0);
            tokio::time::sleep(Duration::from_millis(milliseconds)).await;
        }
        echo(event.metadata.correlation_id, event.uri.as_bytes())
    }

    async fn on_request_body_chunk(&self, event: BodyChunk<'_>) -> AgentResponse {
        echo(event.correlation_id, &event.data)
    }

    async fn on_response_headers(&self, event: ResponseHeadersView<'_>) -> AgentResponse {
        echo(event.correlation_id, &event.status.to_be_bytes())
    }

    async fn on_request_complete(&self, event: RequestComplete<'_>) -> AgentResponse {
        echo(event.correlation_id, &event.status.to_be_bytes())
    }
}

/// An agent's process, killed when dropped.
pub(crate) struct Process {
    child: Child,
    socket: PathBuf,
}

impl Process {
    /// Starts an agent and waits until it listens.
    pub(crate) async fn start(socket: &Path) -> Result<Self, Failure> {
        let child = Command::new(std::env::current_exe()?)
            .arg("agent")
            .arg(socket)
            .stdin(Stdio::piped())
            .spawn()?;
        let process = Self {
            child,
            socket: socket.to_owned(),
        };
        let started = Instant::now();
        while tokio::net::UnixStream::connect(socket).await.is_err() {
            if started.elapsed() > Duration::from_secs(10) {
                return Err(format!("no agent listens at {} after 10 s", socket.display()).into());
            }
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        Ok(process)
    }

    pub(crate) fn socket(&self) -> &Path {
        &self.socket
    }

    pub(crate) fn command(&mut self, command: &str) -> Result<(), Failure> {
        use std::io::Write;
        let stdin = self
            .child
            .stdin
            .as_mut()
            .ok_or("the agent has no standard input")?;
        Ok(writeln!(stdin, "{command}")?)
    }

    pub(crate) fn signal(&self, signal: &str) -> Result<(), Failure> {
        let pid = self.child.id().to_string();
        Command::new("kill").args(["-s", signal, &pid]).status()?;
        Ok(())
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // Ignored: the process may have exited already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
