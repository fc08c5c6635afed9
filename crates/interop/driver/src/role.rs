use crate::address::ListenAddress;
use crate::agent::{self, Agent, AgentProcess};
use crate::load::{self, Pace};
use crate::report::Report;
use crate::subject::{Proxy, Subject};
use crate::traffic::Traffic;
use clap::{Args, Subcommand, ValueEnum};
use std::ffi::OsString;
use std::io;
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::Duration;
use tokio::runtime::Runtime;

/// Worker threads of each process, unless [`WORKERS_VARIABLE`] says otherwise.
const WORKERS: usize = 2;

/// Environment variable with the number of worker threads of each process.
const WORKERS_VARIABLE: &str = "TOLLGATE_BENCH_WORKERS";

/// Task of a program with its subject.
#[derive(Debug, Subcommand)]
pub enum Role {
    /// Put load on the subject and print the figures as JSON
    Measure(MeasureArgs),
    /// Serve as the agent's process of a measurement in two processes
    Serve(ServeArgs),
}

/// Options of [`Role::Measure`].
#[derive(Debug, Args)]
pub struct MeasureArgs {
    /// Requests in flight at a time
    #[arg(long, value_name = "N", default_value = "1")]
    concurrency: NonZeroUsize,
    /// Measured time, after a warm-up of a fifth of it
    #[arg(long, value_name = "SECONDS", default_value = "2", value_parser = seconds)]
    seconds: Duration,
    /// Number of processes: with two, the agent has its own
    #[arg(long, default_value = "one")]
    processes: Processes,
    /// Give each request a body of this size, sent as one chunk
    #[arg(long, value_name = "N", default_value_t = 0)]
    body_bytes: usize,
    /// Let each caller rest for this time after each request
    #[arg(long, value_name = "SECONDS", value_parser = seconds)]
    rest: Option<Duration>,
}

/// Process in which the agent runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Processes {
    /// The process of the proxy's side.
    One,
    /// A separate process.
    Two,
}

/// Options of [`Role::Serve`].
#[derive(Debug, Args)]
pub struct ServeArgs {
    /// Path or address to listen at
    #[arg(long, value_name = "PATH OR ADDRESS")]
    pub(crate) at: OsString,
}

/// Creates the runtime that each process of a measurement uses.
///
/// # Errors
///
/// If the threads cannot be started, or `TOLLGATE_BENCH_WORKERS` is not their number.
pub fn runtime() -> io::Result<Runtime> {
    let workers = std::env::var(WORKERS_VARIABLE).map(|workers| workers.parse());
    let workers = workers.unwrap_or(Ok(WORKERS)).map_err(io::Error::other)?;
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(workers)
        .enable_all()
        .build()
}

/// Executes a role with a subject. `words` are the arguments of the program that precede the role.
///
/// Call it from `block_on`, outside of the runtime's workers.
///
/// # Errors
///
/// If the agent cannot be started or reached. Failed requests are counted in the report instead.
pub async fn run<S: Subject>(role: Role, subject: S, words: &[&str]) -> anyhow::Result<()> {
    match role {
        Role::Measure(args) => {
            let report = measure(&Arc::new(subject), &args, words).await?;
            println!("{}", serde_json::to_string(&report)?);
            Ok(())
        }
        Role::Serve(args) => agent::serve(&subject, args).await,
    }
}

async fn measure<S: Subject>(
    subject: &Arc<S>,
    args: &MeasureArgs,
    words: &[&str],
) -> anyhow::Result<Report> {
    let folder = tempfile::tempdir()?;
    let (address, _reservation) = S::Address::reserved(folder.path())?;
    let mut agent = args.start_agent(subject, &address, words)?;
    subject.ready(&address).await?;
    let traffic = Traffic::with_body_of(args.body_bytes);
    let proxy = subject.connect(&address, &traffic).await?;
    let concurrency = args.concurrency.get();
    let pace = Pace {
        time: args.seconds,
        rest: args.rest,
    };
    let measured = load::drive(&proxy, &mut agent, concurrency, pace).await?;
    Ok(Report::new(proxy.encoding(), measured))
}

impl MeasureArgs {
    fn start_agent<S: Subject>(
        &self,
        subject: &Arc<S>,
        address: &S::Address,
        words: &[&str],
    ) -> anyhow::Result<Agent> {
        match self.processes {
            Processes::One => Ok(Agent::spawn(subject, address)),
            Processes::Two => AgentProcess::start(words, address).map(Agent::Process),
        }
    }
}

fn seconds(text: &str) -> anyhow::Result<Duration> {
    Ok(Duration::try_from_secs_f64(text.parse()?)?)
}
