//! The `tollgate` command: see an agent at work, serve one, ask one, load one, and watch them.

mod agent;
mod browsers;
mod child_agent;
mod connect;
mod correlation_id;
mod counted;
mod demo;
mod demo_traffic;
mod driver;
mod exit;
mod har;
mod latency;
mod load;
mod numerals;
mod options;
mod output;
mod page;
mod probe;
mod progress;
mod recording;
mod report;
mod rules;
mod scrape;
mod send;
mod tally;
mod timeline;
#[cfg(feature = "grpc")]
mod tls;
mod top;
mod traffic;
mod values;

use anyhow::Context;
use clap::{Parser, Subcommand};
use std::process::ExitCode;
use tollgate_counting_alloc::CountingAlloc;

/// Counts, so that reports can say what a request costs on the heap.
#[global_allocator]
static ALLOCATOR: CountingAlloc = CountingAlloc;

/// Ask external agents about every request of a proxy: agent protocol v2 over Unix sockets, and gRPC where built with it.
///
/// Exit status: 0 done, 1 the agent failed or refused, 2 usage.
#[derive(Parser)]
#[command(name = "tollgate", version, arg_required_else_help = true)]
struct Tollgate {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Start an agent in a child process, drive traffic through it and show the figures
    Demo(demo::Args),
    /// Serve an agent with simple rules until SIGINT or SIGTERM
    Agent(agent::Args),
    /// Show what an agent says of itself and how fast it answers
    Probe(probe::Args),
    /// Take one HTTP request through its whole life and show what the agent decides
    Send(send::Args),
    /// Put load on an agent and show the figures
    Load(load::Args),
    /// Watch agents on the terminal: an agent itself, or all those of a proxy that serves its metrics
    Top(top::Args),
}

impl Command {
    async fn run(self) -> anyhow::Result<()> {
        match self {
            Self::Demo(args) => demo::run(args).await,
            Self::Agent(args) => agent::run(args).await,
            Self::Probe(args) => probe::run(args).await,
            Self::Send(args) => send::run(args).await,
            Self::Load(args) => load::run(args).await,
            Self::Top(args) => top::run(args).await,
        }
    }
}

fn main() -> ExitCode {
    let command = Tollgate::parse().command;
    let outcome = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .context("cannot start the runtime")
        .and_then(|runtime| runtime.block_on(command.run()));
    exit::conclude(outcome)
}
