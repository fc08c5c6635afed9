use super::TEST_TIMEOUT;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};
use tokio::net::UnixStream;
use tokio::time::timeout;
use tollgate::{
    AgentCapabilities, AgentHandler, AgentResponse, AgentServer, Decision, RequestHeadersView,
};

/// Environment variable with the socket path of an agent's process.
const SOCKET: &str = "TOLLGATE_TEST_AGENT_SOCKET";

/// More connections than any test makes.
const MAX_CONNECTIONS: usize = 10_000;

/// Agent that blocks every request, with the URI as the body.
struct Echo;

impl AgentHandler for Echo {
    fn capabilities(&self) -> AgentCapabilities {
        AgentCapabilities::new("echo", "Echo", "1")
    }

    async fn on_request_headers(&self, event: RequestHeadersView<'_>) -> AgentResponse {
        AgentResponse::block(403, Some(event.uri.to_owned()))
    }
}

/// Returns the URI that an [`AgentProcess`] has answered with.
pub fn echoed(response: AgentResponse) -> String {
    match response.decision {
        Decision::Block {
            body: Some(body), ..
        } => body,
        other => panic!("not an echo: {other:?}"),
    }
}

/// Runs the agent in a process that a test has started. Ends with that test.
///
/// Each test binary with an [`AgentProcess`] calls this in `#[test] #[ignore] fn agent_process()`.
pub fn run_agent_process() {
    run_agent_process_serving(Echo);
}

/// Like [`run_agent_process`], with another agent.
pub fn run_agent_process_serving(agent: impl AgentHandler) {
    run_agent_process_with(async |socket| {
        let server = AgentServer::builder(agent)
            .listen(socket.display().to_string())
            .max_connections(MAX_CONNECTIONS);
        server.serve().await.unwrap();
    });
}

/// Like [`run_agent_process`], with any task that gets the socket path.
pub fn run_agent_process_with(serve: impl AsyncFnOnce(PathBuf)) {
    let Some(socket) = std::env::var_os(SOCKET) else {
        return;
    };
    std::thread::spawn(|| {
        let _ = std::io::copy(&mut std::io::stdin(), &mut std::io::sink());
        std::process::exit(0);
    });
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(serve(socket.into()));
}

/// Agent in a separate process, which is killed on drop.
pub struct AgentProcess {
    child: Child,
    pub socket: PathBuf,
}

impl AgentProcess {
    /// Starts an agent and waits until it listens. Returns the time of that as well.
    pub async fn start(socket: &Path) -> (Self, Instant) {
        Self::start_as("agent_process", &[], socket).await
    }

    /// Like [`AgentProcess::start`], with the name of the ignored test that is the agent, and with
    /// environment variables.
    pub async fn start_as(
        test: &str,
        variables: &[(&str, &str)],
        socket: &Path,
    ) -> (Self, Instant) {
        let child = Command::new(std::env::current_exe().unwrap())
            .args([test, "--ignored", "--nocapture"])
            .envs(variables.iter().copied())
            .env(SOCKET, socket)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        let process = Self {
            child,
            socket: socket.to_owned(),
        };
        let listening = timeout(TEST_TIMEOUT, async {
            while UnixStream::connect(socket).await.is_err() {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        });
        listening.await.expect("the agent does not start");
        (process, Instant::now())
    }

    pub fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Stops the process with SIGSTOP, and waits until none of its threads runs.
    pub fn pause(&self) {
        self.signal("STOP");
        let began = Instant::now();
        while !self.is_stopped() {
            assert!(began.elapsed() < TEST_TIMEOUT, "the agent goes on");
            std::thread::yield_now();
        }
    }

    /// Lets a paused process continue.
    pub fn resume(&self) {
        self.signal("CONT");
    }

    /// Returns how often threads of the process have gone to sleep.
    pub fn sleeps(&self) -> u64 {
        let read = |status: String| {
            let line = status
                .lines()
                .find_map(|line| line.strip_prefix("voluntary_ctxt_switches:"));
            line.unwrap_or("0").trim().parse::<u64>().unwrap()
        };
        self.of_each_thread("status").map(read).sum()
    }

    fn signal(&self, name: &str) {
        let pid = self.child.id().to_string();
        let sent = Command::new("kill").args(["-s", name, &pid]).status();
        assert!(sent.unwrap().success());
    }

    /// Returns whether each thread is in state `T`, the first field behind its name.
    fn is_stopped(&self) -> bool {
        self.of_each_thread("stat").all(|stat| {
            stat.rsplit_once(") ")
                .is_some_and(|(_, fields)| fields.starts_with('T'))
        })
    }

    /// Reads a file of `/proc` for each thread. It is empty for a thread that has ended.
    fn of_each_thread(&self, file: &'static str) -> impl Iterator<Item = String> {
        let threads = std::fs::read_dir(format!("/proc/{}/task", self.child.id())).unwrap();
        threads.map(move |thread| {
            std::fs::read_to_string(thread.unwrap().path().join(file)).unwrap_or_default()
        })
    }
}

impl Drop for AgentProcess {
    fn drop(&mut self) {
        // The process may have been killed already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
