//! Children, temporary sockets and agents that misbehave.

use serde_json::{Value, json};
use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use tempfile::TempDir;

const NOBODY: u32 = 65_534;

/// The command with these arguments.
pub(crate) fn tollgate(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tollgate"));
    command.args(args);
    command
}

/// Runs the command to its end.
pub(crate) fn run(args: &[&str]) -> Output {
    tollgate(args).stdin(Stdio::null()).output().expect("run")
}

/// Runs the command to its end with this on stdin.
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

/// The one JSON object on stdout of a run that succeeded and had nothing to say on stderr.
pub(crate) fn succeeds(output: Output) -> Value {
    assert_eq!(stderr(&output), "");
    assert!(output.status.success());
    serde_json::from_slice(&output.stdout).expect("one JSON object")
}

/// Checks that a run ended with this status and one line on stderr that holds these parts.
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

/// A temporary folder for the sockets and files of one test.
pub(crate) struct Workplace {
    folder: TempDir,
}

impl Workplace {
    /// An empty folder.
    pub(crate) fn new() -> Self {
        let folder = TempDir::new().expect("folder");
        Self { folder }
    }

    /// Where a file of this name is.
    pub(crate) fn path(&self, name: &str) -> String {
        let path = self.folder.path().join(name);
        path.into_os_string().into_string().expect("path")
    }

    /// A file with this content.
    pub(crate) fn file(&self, name: &str, content: &str) -> String {
        let path = self.path(name);
        fs::write(&path, content).expect("write");
        path
    }

    /// An agent with these options that is ready to serve.
    pub(crate) fn agent(&self, options: &[&str]) -> Agent {
        Agent::start(&self.path("agent.sock"), options)
    }

    /// An agent that handles its first connection as told.
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

    /// Runs the command as somebody who may not do everything, where that can be done.
    pub(crate) fn run_unprivileged(&self, args: &[&str]) -> Option<Output> {
        let mode = fs::Permissions::from_mode(0o755);
        fs::set_permissions(self.folder.path(), mode).expect("mode");
        let is_root = fs::metadata(self.folder.path()).expect("metadata").uid() == 0;
        if !is_root {
            for entry in fs::read_dir(self.folder.path()).expect("folder") {
                let path = entry.expect("entry").path();
                fs::set_permissions(path, fs::Permissions::from_mode(0o000)).expect("mode");
            }
            return Some(run(args));
        }
        // The build folder may be closed to others; then nobody else can run the command at all.
        tollgate(args).uid(NOBODY).gid(NOBODY).output().ok()
    }
}

/// `tollgate agent` in a child process, killed when dropped.
pub(crate) struct Agent {
    child: Child,
    endpoint: String,
}

impl Agent {
    /// One that listens there.
    pub(crate) fn start(listen: &str, options: &[&str]) -> Self {
        let mut child = tollgate(&["agent", "--listen", listen])
            .args(options)
            .stderr(Stdio::piped())
            .spawn()
            .expect("spawn");
        let mut line = String::new();
        let stderr = child.stderr.as_mut().expect("stderr");
        BufReader::new(stderr).read_line(&mut line).expect("line");
        let endpoint = line.trim_end().strip_prefix("listening on ");
        Self {
            endpoint: endpoint.expect(&line).to_owned(),
            child,
        }
    }

    /// Where it listens.
    pub(crate) fn endpoint(&self) -> &str {
        &self.endpoint
    }

    /// Sends it a signal and waits for its end.
    pub(crate) fn stop(mut self, signal: &str) -> ExitStatus {
        let kill = format!("kill -{signal} {}", self.child.id());
        let sent = Command::new("sh").args(["-c", &kill]).status().expect("sh");
        assert!(sent.success());
        self.child.wait().expect("wait")
    }

    /// Ends it without giving it time to clean up.
    pub(crate) fn kill(&mut self) {
        self.child.kill().expect("kill");
        self.child.wait().expect("wait");
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        // Fails when it ended already, which is as good.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Refuses the handshake for this reason.
pub(crate) fn refuse(reason: &str) -> impl FnOnce(UnixStream) + Send + use<> {
    let answer = handshake(false, Some(reason));
    move |mut stream| {
        read_frame(&mut stream);
        write_frame(&mut stream, &answer);
    }
}

/// Shakes hands and closes the connection at the first event.
pub(crate) fn accept_then_hang_up() -> impl FnOnce(UnixStream) + Send {
    |mut stream| {
        read_frame(&mut stream);
        write_frame(&mut stream, &handshake(true, None));
        read_frame(&mut stream);
    }
}

/// Shakes hands and answers nothing, until the proxy goes away.
pub(crate) fn accept_then_say_nothing() -> impl FnOnce(UnixStream) + Send {
    |mut stream| {
        read_frame(&mut stream);
        write_frame(&mut stream, &handshake(true, None));
        // What comes does not matter, nor how it ends.
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
