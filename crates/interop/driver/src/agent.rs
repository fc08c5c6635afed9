//! The agent of a run, in this process or in another one.

use crate::address::ListenAddress;
use crate::role::ServeArgs;
use crate::subject::Subject;
use crate::usage::Usage;
use anyhow::{Context, ensure};
use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;
use tokio::task::JoinHandle;

const LISTEN_TIMEOUT: Duration = Duration::from_secs(10);
const POLL_PERIOD: Duration = Duration::from_millis(2);

/// Environment variable with the processor that the agent's process is bound to.
const PROCESSOR_VARIABLE: &str = "TOLLGATE_BENCH_AGENT_PROCESSOR";

/// An agent, which ends when it is dropped.
pub(crate) enum Agent {
    InProcess(JoinHandle<()>),
    Process(AgentProcess),
}

impl Agent {
    pub(crate) fn spawn<S: Subject>(subject: &Arc<S>, address: &S::Address) -> Self {
        let subject = Arc::clone(subject);
        let address = address.clone();
        Self::InProcess(tokio::spawn(async move {
            if let Err(error) = subject.serve(address).await {
                eprintln!("error: the agent: {error:#}");
            }
        }))
    }

    /// Returns the usage of the agent's process so far, if it has its own.
    pub(crate) fn usage(&mut self) -> anyhow::Result<Option<Usage>> {
        match self {
            Self::InProcess(_) => Ok(None),
            Self::Process(process) => process.usage().map(Some),
        }
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        if let Self::InProcess(task) = self {
            task.abort();
        }
    }
}

/// This program as a server. It prints its usage for each line that it receives.
pub(crate) struct AgentProcess {
    child: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
}

impl AgentProcess {
    /// Starts the process. `words` are the arguments that precede the driver's role.
    pub(crate) fn start(words: &[&str], address: &impl ListenAddress) -> anyhow::Result<Self> {
        let program = std::env::current_exe()?;
        let mut command = match std::env::var_os(PROCESSOR_VARIABLE) {
            Some(processor) => {
                let mut bound = Command::new("taskset");
                bound.arg("-c").arg(processor).arg(program);
                bound
            }
            None => Command::new(program),
        };
        let mut child = command
            .args(words)
            .args(["serve", "--at"])
            .arg(address.to_argument())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .context("cannot start the agent's process")?;
        let input = child.stdin.take().context("no pipe to the agent")?;
        let output = child.stdout.take().context("no pipe from the agent")?;
        Ok(Self {
            child,
            input,
            output: BufReader::new(output),
        })
    }

    /// Requests the usage. Blocks the thread until it arrives.
    fn usage(&mut self) -> anyhow::Result<Usage> {
        self.input.write_all(b"\n")?;
        let mut line = String::new();
        self.output.read_line(&mut line)?;
        serde_json::from_str(&line).context("the agent's process has ended")
    }
}

impl Drop for AgentProcess {
    fn drop(&mut self) {
        // Fails only if the process has ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Serves in this process until the process that started it closes the pipe.
pub(crate) async fn serve<S: Subject>(subject: &S, args: ServeArgs) -> anyhow::Result<()> {
    std::thread::spawn(|| {
        print_usages();
        std::process::exit(0);
    });
    subject.serve(S::Address::from_argument(&args.at)?).await
}

/// Prints the usage for each line of input.
fn print_usages() {
    for _ in std::io::stdin().lock().lines() {
        let usage = serde_json::to_string(&Usage::so_far()).expect("numbers are valid JSON");
        println!("{usage}");
    }
}

/// Waits until a program listens at the address.
pub(crate) async fn wait_until_listening(address: &impl ListenAddress) -> anyhow::Result<()> {
    let connected = tokio::time::timeout(LISTEN_TIMEOUT, async {
        while !address.is_listening().await {
            tokio::time::sleep(POLL_PERIOD).await;
        }
    });
    ensure!(
        connected.await.is_ok(),
        "the agent did not listen within {LISTEN_TIMEOUT:?}"
    );
    Ok(())
}
