//! Child processes, temporary sockets and misbehaving agents.

use serde_json::{Value, json};
use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use tempfile::TempDir;

/// User and group id of the unprivileged user `nobody`.
const NOBODY: u32 = 65_534;

/// Returns the command with these arguments.
pub(crate) fn tollgate(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tollgate"));
    command.args(args);
    command
}

/// Runs the command and waits for its exit.
pub(crate) fn run(args: &[&str]) -> Output {
    tollgate(args).stdin(Stdio::null()).output().expect("run")
}

/// Runs the command with this input on stdin and waits for its exit.
pub(crate) fn run_with_input(args: &[&str], input: &str) -> Output {
    let mut child = tollgate(args)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("spawn");
    let mut stdin = child.stdin.take().expect("stdin");
    stdin.write_all(input.as_bytes()).expect("write");
    drop(stdin);
    child.wait_with_output().expect("wait")
}

/// Checks that a run succeeded with an empty stderr. Returns the JSON object on its stdout.
pub(crate) fn succeeds(output: Output) -> Value {
    assert_eq!(stderr(&output), "");
    assert!(output.status.success());
    serde_json::from_slice(&output.stdout).expect("one JSON object")
}

/// Checks that a run ended with this status and one line on stderr that contains these parts,
/// ignoring case.
pub(crate) fn fails(output: &Output, status: i32, parts: &[&str]) {
    let text = stderr(output);
    assert_eq!(output.status.code(), Some(status), "{text}");
    assert_eq!(text.lines().count(), 1, "{text}");
    assert!(text.starts_with("tollgate: "), "{text}");
    for part in parts {
        let (text, part) = (text.to_lowercase(), part.to_lowercase());
        assert!(text.contains(&part), "{part} in {text}");
    }
}

fn stderr(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).expect("text")
}

/// A temporary directory for the sockets and files of one test.
pub(crate) struct TestDir {
    directory: TempDir,
}

impl TestDir {
    /// Creates an empty directory.
    pub(crate) fn new() -> Self {
        let directory = TempDir::new().expect("directory");
        Self { directory }
    }

    /// Returns the path of a file with this name.
    pub(crate) fn path(&self, name: &str) -> String {
        let path = self.directory.path().join(name);
        path.into_os_string().into_string().expect("path")
    }

    /// Writes a file with this content and returns its path.
    pub(crate) fn file(&self, name: &str, content: &str) -> String {
        let path = self.path(name);
        fs::write(&path, content).expect("write");
        path
    }

    /// Starts an agent with these options and waits until it listens.
    pub(crate) fn agent(&self, options: &[&str]) -> Agent {
        Agent::start(&self.path("agent.sock"), options)
    }

    /// Listens as an agent that runs a script on its first connection. Returns the endpoint.
    pub(crate) fn scripted_agent(
        &self,
        script: impl FnOnce(UnixStream) + Send + 'static,
    ) -> String {
        let endpoint = self.path("scripted.sock");
        let listener = UnixListener::bind(&endpoint).expect("bind");
        std::thread::spawn(move || {
            let (stream, _) = listener.accept().expect("accept");
            script(stream);
        });
        endpoint
    }

    /// Runs the command without access to the files in this directory: as an unprivileged user if
    /// the tests run as root. Returns `None` if that user cannot run the command at all.
    pub(crate) fn run_unprivileged(&self, args: &[&str]) -> Option<Output> {
        let mode = fs::Permissions::from_mode(0o755);
        fs::set_permissions(self.directory.path(), mode).expect("mode");
        let is_root = fs::metadata(self.directory.path()).expect("metadata").uid() == 0;
        if !is_root {
            for entry in fs::read_dir(self.directory.path()).expect("directory") {
                let path = entry.expect("entry").path();
                fs::set_permissions(path, fs::Permissions::from_mode(0o000)).expect("mode");
            }
            return Some(run(args));
        }
        // Fails if the build directory is inaccessible to other users.
        tollgate(args).uid(NOBODY).gid(NOBODY).output().ok()
    }
}

/// `tollgate agent` in a child process, killed when dropped.
pub(crate) struct Agent {
    child: Child,
    endpoint: String,
}

impl Agent {
    /// Starts an agent at this endpoint and waits until it listens.
    pub(crate) fn start(listen: &str, options: &[&str]) -> Self {
        Self::spawn(tollgate(&["agent", "--listen", listen]).args(options))
    }

    /// Runs a command that becomes an agent, and waits until it listens.
    pub(crate) fn spawn(command: &mut Command) -> Self {
        // Nobody reads what handlers that panic write, so it has to fit into the pipe.
        command.env("RUST_BACKTRACE", "0").stderr(Stdio::piped());
        let mut child = command.spawn().expect("spawn");
        let mut line = String::new();
        let stderr = child.stderr.as_mut().expect("stderr");
        BufReader::new(stderr).read_line(&mut line).expect("line");
        let endpoint = line.trim_end().strip_prefix("listening on ");
        Self {
            endpoint: endpoint.expect(&line).to_owned(),
            child,
        }
    }

    /// Returns the endpoint as the agent printed it.
    pub(crate) fn endpoint(&self) -> &str {
        &self.endpoint
    }

    /// Returns the number of its open descriptors.
    pub(crate) fn descriptors(&self) -> usize {
        let folder = format!("/proc/{}/fd", self.child.id());
        fs::read_dir(folder).expect("descriptors").count()
    }

    /// Sends a signal and waits for the agent's exit.
    pub(crate) fn stop(mut self, signal: &str) -> ExitStatus {
        send_signal(&self.child, signal);
        self.child.wait().expect("wait")
    }

    /// Kills the agent and returns what it has written to stderr since it listens.
    pub(crate) fn log(mut self) -> String {
        self.kill();
        let mut log = String::new();
        let stderr = self.child.stderr.as_mut().expect("stderr");
        stderr.read_to_string(&mut log).expect("text");
        log
    }

    /// Kills the agent, which gets no time to clean up.
    pub(crate) fn kill(&mut self) {
        self.child.kill().expect("kill");
        self.child.wait().expect("wait");
    }
}

/// Sends a signal to a child process.
pub(crate) fn send_signal(child: &Child, signal: &str) {
    let kill = format!("kill -{signal} {}", child.id());
    let sent = Command::new("sh").args(["-c", &kill]).status().expect("sh");
    assert!(sent.success());
}

impl Drop for Agent {
    fn drop(&mut self) {
        // Ignored: the agent may have exited already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Returns a script that rejects the handshake with this reason.
pub(crate) fn reject(reason: &str) -> impl FnOnce(UnixStream) + Send + use<> {
    let answer = handshake(false, Some(reason));
    move |mut stream| {
        read_frame(&mut stream);
        write_frame(&mut stream, &answer);
    }
}

/// Returns a script that completes the handshake and closes the connection at the first event.
pub(crate) fn accept_then_hang_up() -> impl FnOnce(UnixStream) + Send {
    |mut stream| {
        read_frame(&mut stream);
        write_frame(&mut stream, &handshake(true, None));
        read_frame(&mut stream);
    }
}

/// Returns a script that completes the handshake and never answers.
pub(crate) fn accept_then_stop_answering() -> impl FnOnce(UnixStream) + Send {
    |mut stream| {
        read_frame(&mut stream);
        write_frame(&mut stream, &handshake(true, None));
        // Reads until the proxy disconnects; the result does not matter.
        let _ = stream.read_to_end(&mut Vec::new());
    }
}

fn handshake(success: bool, error: Option<&str>) -> Value {
    json!({
        "protocol_version": 2,
        "capabilities": {
            "agent_id": "scripted", "name": "scripted", "version": "1", "supported_events": [1],
            "features": {
                "streaming_body": false, "websocket": false, "guardrails": false,
                "config_push": false, "metrics_export": false, "concurrent_requests": 1,
                "cancellation": false, "flow_control": false, "health_reporting": false
            },
            "limits": {"max_body_size": 1, "max_concurrency": 1, "preferred_chunk_size": 1}
        },
        "success": success,
        "error": error,
        "encoding": "json"
    })
}

fn read_frame(stream: &mut UnixStream) {
    let mut length = [0; 4];
    stream.read_exact(&mut length).expect("length");
    let mut payload = vec![0; u32::from_be_bytes(length) as usize];
    stream.read_exact(&mut payload).expect("payload");
}

fn write_frame(stream: &mut UnixStream, handshake: &Value) {
    let payload = handshake.to_string();
    let length = u32::try_from(payload.len() + 1).expect("length");
    let mut frame = length.to_be_bytes().to_vec();
    frame.push(0x02);
    frame.extend_from_slice(payload.as_bytes());
    stream.write_all(&frame).expect("write");
}
