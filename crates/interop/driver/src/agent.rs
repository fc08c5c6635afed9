//! The agent of a run, in this process or in another one.

use crate::place::Place;
use crate::role::ServeArgs;
use crate::subject::Subject;
use crate::usage::Usage;
use anyhow::{Context, ensure};
use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;
use tokio::task::JoinHandle;

const PATIENCE: Duration = Duration::from_secs(10);
const POLL_PERIOD: Duration = Duration::from_millis(2);

/// Ends when dropped.
pub(crate) enum Agent {
    InProcess(JoinHandle<()>),
    Process(AgentProcess),
}

impl Agent {
    pub(crate) fn spawn<S: Subject>(subject: &Arc<S>, place: &S::Place) -> Self {
        let subject = Arc::clone(subject);
        let place = place.clone();
        Self::InProcess(tokio::spawn(async move {
            if let Err(error) = subject.serve(place).await {
                eprintln!("the agent: {error:#}");
            }
        }))
    }

    /// What the other process has used so far, if the agent has one.
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

/// This very program, serving; it tells what it has used whenever it is sent a line.
pub(crate) struct AgentProcess {
    child: Child,
    questions: ChildStdin,
    answers: BufReader<ChildStdout>,
}

impl AgentProcess {
    /// `words` lead to the driver's role on the program's command line.
    pub(crate) fn start(words: &[&str], place: &impl Place) -> anyhow::Result<Self> {
        let mut child = Command::new(std::env::current_exe()?)
            .args(words)
            .args(["serve", "--at"])
            .arg(place.to_argument())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .context("cannot start the agent's process")?;
        let questions = child.stdin.take().context("no pipe to the agent")?;
        let answers = child.stdout.take().context("no pipe from the agent")?;
        Ok(Self {
            child,
            questions,
            answers: BufReader::new(answers),
        })
    }

    /// Blocks the thread until the answer comes.
    fn usage(&mut self) -> anyhow::Result<Usage> {
        self.questions.write_all(b"\n")?;
        let mut answer = String::new();
        self.answers.read_line(&mut answer)?;
        serde_json::from_str(&answer).context("the agent's process has ended")
    }
}

impl Drop for AgentProcess {
    fn drop(&mut self) {
        // Errors mean that it has ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Serves in this process until whoever started it is gone.
pub(crate) async fn serve<S: Subject>(subject: &S, args: ServeArgs) -> anyhow::Result<()> {
    std::thread::spawn(|| {
        answer_questions();
        std::process::exit(0);
    });
    subject.serve(S::Place::from_argument(&args.at)?).await
}

fn answer_questions() {
    for _ in std::io::stdin().lock().lines() {
        let answer = serde_json::to_string(&Usage::so_far()).expect("numbers are JSON");
        println!("{answer}");
    }
}

/// Waits until somebody listens there.
pub(crate) async fn listening(place: &impl Place) -> anyhow::Result<()> {
    let connected = tokio::time::timeout(PATIENCE, async {
        while !place.is_listening().await {
            tokio::time::sleep(POLL_PERIOD).await;
        }
    });
    ensure!(connected.await.is_ok(), "the agent does not listen");
    Ok(())
}
